"""What phase k minimises: the printed constrained problem, or the best map of rank k?"""

from dataclasses import dataclass

import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from learning_dynamics.problems import Moments
from learning_dynamics.saddles.linear_nets.modes import ModeRun, follow_modes
from learning_dynamics.saddles.theory import staircase
from learning_dynamics.saddles.theory.stages import first_record
from paper.claims import Evidence
from paper.saddles.random_linear import at_relative_step, moments_with_gaps, unit_starts

__all__ = ["Config", "confined_map", "evidence", "in_order", "map_loss", "rest_record", "run"]


@dataclass(frozen=True)
class Config:
    """problems, one small scale (rows are graded, so it may lie below rounding), eta s_1."""

    problems: int = 10
    scale: float = 1e-80
    relative_step: float = 0.3
    covariance: str = "generic"
    threshold: float = 0.1
    phases: tuple[int, ...] = (1, 2, 3)


def map_loss(moments: Moments, w: Float[Tensor, "*runs m2 m0"]) -> Float[Tensor, " *runs"]:
    """L of the linear map W."""
    inner = moments.yy - 2 * w @ moments.yx.mT + w @ moments.xx @ w.mT
    return 0.5 * inner.diagonal(dim1=-2, dim2=-1).sum(-1)


def confined_map(
    moments: Moments, basis: Float[Tensor, "*runs coordinate k"], iterations: int = 800
) -> Float[Tensor, "*runs m2 m0"]:
    """The map of least loss whose units all lie in the span of `basis` (orthonormal columns).

    Units C V' give W = V_b Q V_a' with Q = C'C, any positive semidefinite matrix (m1 >= k):
    a convex problem, solved by accelerated projected gradient.
    """
    m0 = moments.xx.shape[-1]
    a, b = basis[..., :m0, :], basis[..., m0:, :]
    inside, outside = a.mT @ moments.xx @ a, b.mT @ b
    linear = b.mT @ moments.yx @ a
    step = 1 / (torch.linalg.matrix_norm(inside, ord=2) * torch.linalg.matrix_norm(outside, ord=2))
    q = torch.zeros_like(inside)
    ahead, momentum = q, 1.0
    for _ in range(iterations):
        g = outside @ ahead @ inside - linear
        free = ahead - step[..., None, None] * (g + g.mT) / 2
        values, vectors = torch.linalg.eigh(free)
        new = (vectors * values.clamp_min(0)[..., None, :]) @ vectors.mT
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = new + (momentum - 1) / following * (new - q)
        q, momentum = new, following
    return b @ q @ a.mT


def _largest_angle(w: Tensor, other: Tensor, k: int) -> Float[Tensor, " *runs"]:
    """Largest principal angle, degrees, between top-k row or column spaces of two maps."""
    (u, _, v), (p, _, q) = (torch.linalg.svd(m, full_matrices=False) for m in (w, other))
    pairs = (u[..., :k], p[..., :k]), (v[..., :k, :].mT, q[..., :k, :].mT)
    # The sine is accurate for small angles, where the cosine is not.
    sines = [torch.linalg.matrix_norm(x - y @ (y.mT @ x), ord=2) for x, y in pairs]
    return torch.rad2deg(torch.maximum(*sines).clamp(max=1).asin())


def rest_record(track: ModeRun, k: int, threshold: float = 0.1) -> Int[Tensor, " runs"]:
    """The record at which each run rests after drop k: the slowest between the fastest step
    after escape k (sigma_k(S) = threshold) and escape k + 1."""
    speed = (track.losses[:, 1:] - track.losses[:, :-1]).abs()
    record, modes = torch.arange(speed.shape[1]), track.modes
    active_from, leave = (first_record(modes[..., j] >= threshold) for j in (k - 1, k))
    window = (record >= active_from[:, None]) & (record < leave[:, None])
    fastest = torch.where(window, speed, -1.0).argmax(-1)
    slow = torch.where(window & (record >= fastest[:, None]), speed, torch.inf)
    # On a long plateau the loss stops at the last digit: take the middle of the slowest.
    rest = slow <= slow.amin(-1, keepdim=True) * (1 + 1e-9)
    return ((rest * record).sum(-1) / rest.sum(-1)).long()


def run(config: Config = Config()) -> xr.Dataset:
    """Losses and angles at the end of each phase, (problem, phase). Losses are in excess of the
    rank-k optimum, relative to drop k.

    reached  : of gradient descent at its slowest step after drop k, before escape k + 1.
    confined : of the printed problem, units confined to the span P_k they have at escape k.
    chosen   : the same, confined to the span they have at the end; the print allows it.
    angle_reached, angle_confined : largest angle, in degrees, between the row space or the
               column space of W and that of the rank-k optimum.
    """
    batch = moments_with_gaps(config.problems, covariance=config.covariance)
    each, eta, theory = at_relative_step(batch, config.relative_step)
    last = float(theory.drop_steps(config.scale).max())
    track = follow_modes(
        each,
        unit_starts(len(batch), (config.scale,), (10, 10), seed="constrained-phase"),
        step_size=eta,
        steps=int(1.1 * last + 30 / config.relative_step),
        keep=("modes", "units"),
    )
    maps = track.units[..., 6:].mT @ track.units[..., :6]
    rows = torch.arange(len(batch))
    phases = []
    for k in config.phases:
        active_from = first_record(track.modes[..., k - 1] >= config.threshold)
        at = rest_record(track, k, config.threshold)
        best, level = staircase.rank_k_optimum(each, k)
        drop = theory.levels[:, k - 1] - theory.levels[:, k]
        spans = (
            torch.linalg.svd(track.units[rows, record], full_matrices=False)[2][:, :k].mT
            for record in (active_from, at)
        )
        confined, chosen = (confined_map(each, v) for v in spans)
        reached = maps[rows, at]
        found = {
            "reached": (map_loss(each, reached) - level) / drop,
            "confined": (map_loss(each, confined) - level) / drop,
            "chosen": (map_loss(each, chosen) - level) / drop,
            "angle_reached": _largest_angle(reached, best, k),
            "angle_confined": _largest_angle(confined, best, k),
        }
        phases.append(xr.Dataset({name: ("problem", x) for name, x in found.items()}))
    result = xr.concat(phases, "phase").assign_coords(phase=list(config.phases))
    return result.transpose("problem", "phase")


def in_order(moments: Moments) -> Float[Tensor, " *runs"]:
    """1 where the modes of commuting inputs have the same order by correlation s_i and by gain
    s_i^2/lambda_i, else 0."""
    _, s, v = torch.linalg.svd(moments.yx, full_matrices=False)
    gain = s.square() / (v @ moments.xx @ v.mT).diagonal(dim1=-2, dim2=-1)
    return (gain.diff(dim=-1) < 0).all(-1).to(s.dtype)


def evidence(quick: bool = False) -> Evidence:
    """For `saddles/constrained-phase`: excess losses of gradient descent over the rank-k optima
    and of the printed problem, the latter for generic, isotropic and commuting inputs (whose
    modes have one order, `commuting_in_order`). Angles to 1e-5 degrees: the rest is where the loss
    stands still at its last digit, and the map still turns by the root of that, 1e-8."""
    count, few = (3, 1) if quick else (12, 6)
    generic = run(Config(problems=count))
    isotropic, commuting = (
        run(Config(problems=few, covariance=kind)) for kind in ("isotropic", "commuting")
    )
    tasks = moments_with_gaps(few, covariance="commuting")
    turned = generic.angle_reached
    return Evidence(
        measured=[float(abs(found.reached).max()) for found in (generic, isotropic, commuting)],
        predicted=[0.0, 0.0, 0.0],
        tolerance=0.01,
        seeds=list(range(count)),
        details={
            "printed_excess_generic": generic.confined.median("problem").values.tolist(),
            "printed_excess_generic_least": float(generic.confined.sel(phase=1).min()),
            "chosen_excess_generic": float(abs(generic.chosen).max()),
            "printed_excess_isotropic": float(abs(isotropic.confined).max()),
            "printed_excess_commuting": float(abs(commuting.confined).max()),
            "commuting_in_order": [float(in_order(task)) for task in tasks],
            "angle_reached": round(float(turned.max()), 5),
            "angle_reached_median": turned.median("problem").values.round(5).tolist(),
            "angle_printed": generic.angle_confined.median("problem").values.tolist(),
            "angle_commuting": round(float(commuting.angle_confined.max()), 5),
        },
    )
