"""Plateaus and drops of a measured run, with or without predicted levels."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.signal import find_peaks
from torch import Tensor

from learning_dynamics.problems import Moments
from learning_dynamics.runtime import check_integer, check_positive, check_share, check_tensors
from learning_dynamics.saddles.theory.staircase import (
    Staircase,
    finite_step_rate,
    input_whitener,
    visited_map,
)

__all__ = [
    "Stages",
    "arrival_rate",
    "crossing_steps",
    "find_drops",
    "find_stages",
    "first_record",
    "log_excess",
]


@dataclass(frozen=True)
class Stages:
    """Where a run rests and where it falls; all positions in steps.

    drop_steps    : (runs, drops), first step at which the loss passes the middle between level
                    k and level k + 1 (linear between records); NaN if it never does.
    plateau_steps : (runs, drops + 1), the slowest recorded step of plateau k (least loss per
                    step) between drop k and drop k + 1; the first starts at the first record,
                    the last ends at the last; NaN if drop k did not happen.
    plateau_losses: (runs, drops + 1), the loss there.
    misfit        : (runs, drops + 1), least |loss - level k| between those drops, in units of
                    the drop that leads to level k (for k = 0: of the one that leaves it).
    """

    drop_steps: Float[Tensor, "runs drops"]
    plateau_steps: Float[Tensor, "runs levels"]
    plateau_losses: Float[Tensor, "runs levels"]
    misfit: Float[Tensor, "runs levels"]


def first_record(reached: Bool[Tensor, "*runs records"]) -> Int[Tensor, "*runs"]:
    """Index of the first record at which each run has `reached` what is asked for.

    Raises ValueError if a run never does.
    """
    never = ~reached.any(-1)
    if bool(never.any()):
        run = never.nonzero()[0].tolist()
        raise ValueError(
            f"reached: run {run} never does in {reached.shape[-1]} records; run longer"
        )
    return reached.long().argmax(-1)


def _check_steps(steps: Tensor, least: int = 2) -> None:
    """Raise ValueError unless there are so many steps and they increase."""
    if len(steps) < least or not bool((steps.diff() > 0).all()):
        raise ValueError(f"steps = {steps.tolist()}: must be {least} or more that increase")


def crossing_steps(
    values: Float[Tensor, "runs records"],
    thresholds: Float[Tensor, "runs thresholds"],
    steps: Int[Tensor, " records"],
) -> Float[Tensor, "runs thresholds"]:
    """First step at which each run falls below each threshold, linear between records.

    NaN where it never does; the first recorded step where it starts below.
    """
    check_tensors(
        values=(values, "runs records"),
        thresholds=(thresholds, "runs thresholds"),
        steps=(steps, "int records"),
    )
    _check_steps(steps, least=1)
    below = values[:, None, :] < thresholds[..., None]  # (runs, thresholds, records)
    index = below.long().argmax(-1)
    before = (index - 1).clamp_min(0)
    t = steps.to(values.dtype)
    high, low = values.gather(1, before), values.gather(1, index)
    part = torch.where(index > 0, (high - thresholds) / (high - low), 1.0)
    crossed = t[before] + part * (t[index] - t[before])
    return torch.where(below.any(-1), crossed, torch.nan)


def find_stages(
    losses: Float[Tensor, "runs records"],
    levels: Float[Tensor, "runs levels"],
    steps: Int[Tensor, " records"],
) -> Stages:
    """Plateaus and drops of runs whose saddle losses `levels` are known (falling).

    losses : at the recorded `steps`, at least two records.
    Raises ValueError if levels do not fall or losses are not finite.

    >>> import torch
    >>> losses = torch.tensor([[2.0, 2.0, 2.0, 1.0, 0.5, 0.5, 0.5, 0.1, 0.0]])
    >>> stages = find_stages(losses, torch.tensor([[2.0, 0.5, 0.0]]), torch.arange(9))
    >>> stages.drop_steps.tolist()
    [[2.75, 6.625]]
    """
    check_tensors(
        losses=(losses, "runs records"),
        levels=(levels, "runs levels"),
        steps=(steps, "int records"),
    )
    _check_steps(steps)
    heights = levels.diff(dim=1)
    if levels.shape[1] < 2 or not bool((heights < 0).all()):
        raise ValueError(f"levels = {levels.tolist()}: must be two or more that fall strictly")
    drops = crossing_steps(losses, (levels[:, 1:] + levels[:, :-1]) / 2, steps)

    t = steps.to(losses.dtype)
    infinity = torch.full_like(drops[:, :1], torch.inf)
    start = torch.cat([-infinity, drops], dim=1)[..., None]
    end = torch.cat([drops.nan_to_num(torch.inf), infinity], dim=1)[..., None]
    inside = (t >= start) & (t < end)  # (runs, levels, records)
    speed = torch.gradient(losses, spacing=(t,), dim=1)[0].abs()[:, None, :]
    slowest = torch.where(inside, speed, torch.inf).argmin(-1)
    found = inside.any(-1)
    scale = -torch.cat([heights[:, :1], heights], dim=1)
    distance = (losses[:, None, :] - levels[..., None]).abs()
    misfit = torch.where(inside, distance, torch.inf).amin(-1) / scale
    nan = torch.nan
    return Stages(
        drop_steps=drops,
        plateau_steps=torch.where(found, t[slowest], nan),
        plateau_losses=torch.where(found, losses.gather(1, slowest), nan),
        misfit=torch.where(found, misfit, nan),
    )


@torch.no_grad()
def find_drops(
    losses: Float[Tensor, " records"],
    steps: Int[Tensor, " records"],
    prominence: float = 1.0,
    accuracy: float | None = None,
) -> tuple[Int[Tensor, " drops"], Int[Tensor, " plateaus"]]:
    """Drops and plateaus of one loss curve whose levels are not known.

    A drop is a peak of log |dL/dt| that stands out by `prominence` (1 = a factor e in speed);
    a plateau is the slowest record before the first, between two, or after the last drop.
    accuracy : of the losses, relative to the largest (default: rounding of one number; a loss from
    moments has some hundred times more).
    Returns indices into `losses`: drops, and one plateau more than drops.

    >>> import torch
    >>> losses = torch.tensor([1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.001, 0.001, 0.001])
    >>> drops, plateaus = find_drops(losses, torch.arange(9))
    >>> drops.tolist()
    [2, 5]
    """
    check_tensors(losses=(losses, "records"), steps=(steps, "int records"))
    check_positive("prominence", prominence)
    _check_steps(steps)
    accuracy = torch.finfo(losses.dtype).eps if accuracy is None else accuracy
    check_positive("accuracy", accuracy)
    t = steps.to(losses.dtype)
    speed = torch.gradient(losses, spacing=(t,), dim=0)[0].abs()
    # Below this speed the difference of two losses is rounding.
    floor = accuracy * losses.abs().max() / t.diff().min()
    log_speed = torch.log(speed.clamp_min(floor)).cpu().numpy()
    peaks, _ = find_peaks(np.pad(log_speed, 1, mode="minimum"), prominence=prominence)
    drops = peaks - 1
    edges = [0, *drops.tolist(), len(log_speed) - 1]
    rests = [
        a + int(np.argmin(log_speed[a : b + 1])) for a, b in zip(edges, edges[1:], strict=False)
    ]
    at = losses.device
    return torch.as_tensor(drops, device=at), torch.tensor(rests, device=at)


def arrival_rate(moments: Moments, k: int, step_size: float | None = None) -> Float[Tensor, ""]:
    """Rate at which the slowest active mode reaches the rank-k saddle of one problem.

    The least positive eigenvalue h of the Hessian of the squared loss in (W1, W2) of width k, at
    the balanced factors of the visited map. Zero are k^2 directions that leave W2 W1 as it is,
    k (m0 - rank Sigma_xx) that change it on inputs that never occur, and those that lead from one
    of several tied saddles to another. With a step size:
    -log(max |1 - eta h|)/eta over the positive eigenvalues, of which the stiffest can be the
    slowest; valid below 2/max h.
    moments : of one problem (no leading dimension); 1 <= k <= rank of the least-squares map.

    >>> import torch
    >>> from learning_dynamics import Moments
    >>> s = torch.diag(torch.tensor([3.0, 1.0]))
    >>> round(float(arrival_rate(Moments(torch.eye(2), s, s @ s), 1)), 6)
    2.0
    """
    check_tensors(moments=(moments, Moments))
    check_tensors(yx=(moments.yx, "m2 m0"))
    check_integer("k", k, least=1)
    target = visited_map(moments, k, step_size)
    u, s, vt = torch.linalg.svd(target)
    rank = int((s > s[0] * max(target.shape) * torch.finfo(s.dtype).eps).sum())
    if k > rank:
        raise ValueError(f"k = {k}: must be at most {rank}, the rank of the least-squares map")
    root = s[:k].sqrt()
    w1, w2 = root[:, None] * vt[:k], u[:, :k] * root

    inputs, outputs = w1.numel(), w2.numel()
    every = torch.eye(inputs + outputs, dtype=w1.dtype, device=w1.device)
    d1, d2 = every[:, :inputs].reshape(-1, *w1.shape), every[:, inputs:].reshape(-1, *w2.shape)
    moved = d2 @ w1 + w2 @ d1
    # Second order: the change of W2 W1 seen by the inputs, and of both factors seen by R.
    first = (moved @ moments.xx).flatten(1) @ moved.flatten(1).mT
    second = ((moments.yx - target @ moments.xx).mT @ d2).mT.flatten(1) @ d1.flatten(1).mT
    hessian = first - second - second.mT
    unseen = int((input_whitener(moments.xx) == 0).all(0).sum())
    values = torch.linalg.eigvalsh(hessian)
    values = values[values.abs().argsort()][k * (k + unseen) :]
    # Where modes tie, the saddle is one of many: directions to the others are as flat as rounding.
    flat = values.abs().max() * len(values) * torch.finfo(values.dtype).eps
    h = values[values > flat].sort().values
    if step_size is None:
        return h[0]
    slowest = (1 - step_size * h).abs().max()
    if not float(slowest) < 1:
        raise ValueError(f"step_size = {step_size!r}: must be below 2/{float(h[-1]):g}")
    return -slowest.log() / step_size


def log_excess(moments: Moments, staircase: Staircase, k: int, init_scale: float) -> float:
    """Predicted log of |L - level k|/level k at the slowest step of plateau k, to leading order.

    staircase : `staircase.predict_staircase(moments, step_size)` of the same single problem.
    k         : 1 .. r - 1. init_scale : epsilon in (0, 1).
    Constants of order one are left out: read -7 as "about one in a thousand, give or take ten".
    """
    if not isinstance(staircase, Staircase) or isinstance(staircase.step_size, Tensor):
        raise ValueError("staircase: must be a Staircase with one step size or None")
    rank = staircase.times.shape[-1]
    check_integer("k", k, least=1)
    if k >= rank:
        raise ValueError(f"k = {k}: must be below {rank}")
    check_share("init_scale", init_scale)
    a = float(arrival_rate(moments, k, staircase.step_size))
    s = float(finite_step_rate(staircase.rates[k, :1], staircase.step_size))
    length = float(staircase.times[k] - staircase.times[k - 1]) * math.log(1 / init_scale)
    return -2 * a * s / (a + s) * length
