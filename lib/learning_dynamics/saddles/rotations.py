"""Rotation of the hidden basis: one-sided Jacobi on the rows of S.

A linear net commutes with rotations of its hidden units. Rotated so that the rows of S are
orthogonal, every mode that still sleeps lives in rows of its own. An update of gradient descent
multiplies each row by the same matrix, so rounding stays relative to the row; without rotation
each row holds a bit of every awake mode, and rounding of these bits re-seeds sleeping modes at
1e-16 of the awake ones: the float floor. One-sided Jacobi finds rows of very different length to
high relative accuracy (Demmel and Veselic), unlike an SVD of the whole matrix.
"""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["rotate_rows"]


@cache
def _rounds(rows: int) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """A round-robin tournament: every pair of rows once, disjoint pairs side by side."""
    players: list[int | None] = list(range(rows)) + [None] * (rows % 2)
    half, rounds = len(players) // 2, []
    for _ in range(len(players) - 1):
        pairs = zip(players[:half], players[:half - 1:-1], strict=True)
        met = [(a, b) for a, b in pairs if a is not None and b is not None]
        rounds.append((tuple(a for a, _ in met), tuple(b for _, b in met)))
        players = [players[0], players[-1], *players[1:-1]]
    return tuple(rounds)


def rotate_rows(
    rows: Float[Tensor, "*runs m1 coordinate"],
    rotation: Float[Tensor, "*runs m1 m1"] | None = None,
    *,
    sweeps: int = 1,
) -> tuple[Float[Tensor, "*runs m1 coordinate"], Float[Tensor, "*runs m1 m1"]]:
    """Rows of S made orthogonal, and the rotation Omega with (new rows) = Omega (first rows).

    rotation : Omega so far (identity if None).
    sweeps   : Jacobi sweeps; one keeps nearly orthogonal rows orthogonal, from a random start
               about log2(m1) + 4 are needed for 1e-15.
    Each sweep rotates every pair (a, b) by the angle with tan 2 angle = 2 a.b / (|a|^2 - |b|^2),
    formed from norms and the cosine, so that rows of length 1e-100 neither vanish nor overflow.
    """
    s = rows.clone()
    if rotation is None:
        rotation = torch.eye(s.shape[-2], dtype=s.dtype, device=s.device)
        rotation = rotation.expand(*s.shape[:-2], -1, -1)
    width = s.shape[-1]
    s = torch.cat([s, rotation], -1)
    for _ in range(sweeps):
        for first, second in _rounds(s.shape[-2]):
            i, j = list(first), list(second)
            a, b = s[..., i, :], s[..., j, :]
            na = a[..., :width].norm(dim=-1, keepdim=True)
            nb = b[..., :width].norm(dim=-1, keepdim=True)
            cosine = ((a[..., :width] / na) * (b[..., :width] / nb)).sum(-1, keepdim=True)
            zeta = (nb / na - na / nb) / (2 * cosine)
            t = torch.copysign(1 / (zeta.abs() + torch.hypot(zeta, torch.ones_like(zeta))), zeta)
            t = torch.where((cosine == 0) | ~torch.isfinite(cosine), 0.0, t)
            c = 1 / torch.hypot(t, torch.ones_like(t))
            s[..., i, :], s[..., j, :] = c * (a - t * b), c * (b + t * a)
    return s[..., :width], s[..., width:]
