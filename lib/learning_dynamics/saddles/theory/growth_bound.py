"""Descent (Lemma 2 of Arata's thesis): how fast can anything grow beside the leading directions?"""

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.runtime import check_integer, check_tensors

__all__ = ["growth_bound", "leading_projector", "outside_norm"]


def leading_projector(
    units: Float[Tensor, "*runs m1 coordinate"], k: int = 1
) -> Float[Tensor, "*runs coordinate coordinate"]:
    """P_k: projector on the top k right singular directions of S."""
    check_tensors(units=(units, "*runs m1 coordinate"))
    check_integer("k", k, least=1)
    if k > min(units.shape[-2:]):
        raise ValueError(f"k = {k}: must be at most {min(units.shape[-2:])}, the modes of S")
    v = torch.linalg.svd(units, full_matrices=False)[2][..., :k, :]
    return v.mT @ v


def _check_projector(p: Tensor) -> None:
    """Raise ValueError unless P = P' = P^2, to rounding."""
    p = p.detach()
    off = torch.maximum((p - p.mT).abs().amax(), (p @ p - p).abs().amax())
    if float(off) > 1e3 * p.shape[-1] * torch.finfo(p.dtype).eps:
        raise ValueError(f"projector: P^2 or P' differs from P by {float(off):.2g}: must be P")


def growth_bound(
    update: Float[Tensor, "*runs coordinate coordinate"],
    projector: Float[Tensor, "*runs coordinate coordinate"],
) -> Float[Tensor, " *runs"]:
    """|(I - eta M)(I - P)|, spectral norm: what one step can do to what lies outside P.

    With P = P_k(t) of S(t) and update = I - eta M(t):
        sigma_{k+1}(S(t+1)) <= |(I - eta M(t))(I - P_k(t))| sigma_{k+1}(S(t)),
    for every step size, loss and width of a linear net: S(t+1) = S(t)(I - eta M(t)), and
    S(t) P_k(t)(I - eta M(t)) has rank k, so that sigma_{k+1}(S(t+1)) is at most the norm of the
    rest, S(t)(I - P_k(t))(I - eta M(t)).

    >>> import torch
    >>> update = torch.diag(torch.tensor([1.2, 1.1, 0.9]))
    >>> leading = torch.diag(torch.tensor([1.0, 0.0, 0.0]))
    >>> round(float(growth_bound(update, leading)), 6)
    1.1
    """
    square = "*runs coordinate coordinate"
    check_tensors(update=(update, square), projector=(projector, square))
    _check_projector(projector)
    size = update.shape[-1]
    outside = torch.eye(size, dtype=update.dtype, device=update.device) - projector
    return torch.linalg.matrix_norm(update @ outside, ord=2)


def outside_norm(
    units: Float[Tensor, "*runs m1 coordinate"],
    projector: Float[Tensor, "*runs coordinate coordinate"],
) -> Float[Tensor, "*runs m1"]:
    """|(I - P) w_i| for each unit, the quantity of Lemma 2."""
    square = "*runs coordinate coordinate"
    check_tensors(units=(units, "*runs m1 coordinate"), projector=(projector, square))
    _check_projector(projector)
    return (units - units @ projector).norm(dim=-1)
