"""The same measures for every method: cost, fidelity to the saddles, order, rank, distance."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.saddles.skipping.objective import Path
from paper.saddles.efficient_algorithm.methods import arrival
from paper.saddles.efficient_algorithm.problems import Case

__all__ = ["distance_to_path", "measures"]


def _gap(f: Tensor, target: Tensor) -> Tensor:
    return (f - target).flatten(-2).norm(dim=-1) / target.norm().clamp(min=1e-300)


def _angle(f: Tensor, target: Tensor) -> float:
    """Largest principal angle (degrees) between output spaces; between vectors if one output."""
    if target.shape[0] == 1:
        cosine = float((f * target).sum() / (f.norm() * target.norm()).clamp(min=1e-300))
        return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))
    rank = int(torch.linalg.matrix_rank(target, rtol=1e-6))
    u, v = (torch.linalg.svd(m, full_matrices=False)[0][:, :rank] for m in (f, target))
    across = v - u @ (u.mT @ v)  # the sine is exact for small angles
    return math.degrees(math.asin(min(1.0, float(torch.linalg.matrix_norm(across, 2)))))


def _excess_rank(path: Path, nearest: list[int]) -> float | None:
    """Largest sigma_{k+1}(f)/sigma_k(f) at the nearest approach to saddle k, before the last.

    0: the path has rank k there; near 1: the next mode is as large. None for one output.
    """
    if path.outputs.shape[1] == 1 or len(nearest) < 2:
        return None
    worst = 0.0
    for k, at in enumerate(nearest[:-1], start=1):
        s = torch.linalg.svdvals(path.outputs[at])
        if k < len(s) and float(s[k - 1]) > 0:
            worst = max(worst, float(s[k] / s[k - 1]))
    return worst


def _final_rank(path: Path, case: Case) -> int:
    """Rank of the last map (singular values above 1e-3 of the first), linear nets; else the
    number of distinct directions among units above 1e-3 of the largest."""
    w = path.weights
    if case.activation == "linear" and not case.diagonal:
        s = torch.linalg.svdvals(w.w2 @ w.w1)
        return int((s > 1e-3 * s[0]).sum())
    size = w.w1.norm(dim=1) * w.w2.norm(dim=0)
    if len(size) == 0:
        return 0
    units = w.units[size > 1e-3 * size.max()]
    units = units / units.norm(dim=1, keepdim=True)
    found: list[Tensor] = []
    for unit in units:
        if all(float(unit @ other) < 0.999 for other in found):
            found.append(unit)
    return len(found)


def distance_to_path(path: Path, reference: Path, case: Case, points: int = 40) -> float:
    """Mean over losses of |f - f_reference|/|f_reference| at equal loss, log-spaced above the end.

    Each path is taken at its first record at or below that loss.
    """
    levels = case.levels
    first, last = float(levels[0] - levels[-1]), 1e-4 * float(levels[0])
    wanted = float(levels[-1]) + torch.logspace(
        math.log10(0.95 * first), math.log10(last), points, dtype=torch.float64
    )
    gaps: list[float] = []
    for value in wanted.tolist():
        at = [(p.losses <= value).nonzero() for p in (path, reference)]
        if min(len(a) for a in at) == 0:
            continue
        target = reference.outputs[int(at[1][0, 0])]
        gaps.append(float(_gap(path.outputs[int(at[0][0, 0])], target)))
    return sum(gaps) / len(gaps) if gaps else math.nan


def measures(path: Path, case: Case, reference: Path | None = None) -> dict[str, Any]:
    """Everything that the tables show of one run, as plain numbers.

    evaluations : until the last saddle is reached (see `arrival`), None if it is missed.
    saddle_gap  : per saddle 1..K, smallest |f - f_k|/|f_k| over the path.
    loss_gap    : per saddle, |L - L_k|/L_k (L_0 where L_k = 0) at that record.
    angle       : per saddle, degrees, at that record.
    in_order    : every saddle is approached to 10 %, in order.
    """
    levels = case.levels
    scale = torch.where(levels > 1e-9 * levels[0], levels, levels[0])
    nearest = [int(_gap(path.outputs, f).argmin()) for f in case.outputs[1:]]
    gaps = [float(_gap(path.outputs[i], f)) for i, f in zip(nearest, case.outputs[1:], strict=True)]
    loss_gap: Float[Tensor, " k"] = (path.losses[nearest] - levels[1:]).abs() / scale[1:]
    return {
        "evaluations": arrival(path, case),
        "spent": float(path.evaluations[-1]),
        "svds": path.svds,
        "seconds": path.seconds,
        "last_loss": float(path.losses[-1]),
        "saddle_gap": gaps,
        "loss_gap": loss_gap.tolist(),
        "angle": [
            _angle(path.outputs[i], f) for i, f in zip(nearest, case.outputs[1:], strict=True)
        ],
        "in_order": nearest == sorted(nearest) and max(gaps) <= 0.1,
        "excess_rank": _excess_rank(path, nearest),
        "final_rank": _final_rank(path, case),
        "distance": distance_to_path(path, reference, case) if reference is not None else None,
        "status": path.status,
    }
