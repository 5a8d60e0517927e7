"""The algorithm without plateaus against gradient descent on random problems.

What gradient descent does is read from its two runs alone (`reference_runs`): where it rests, and
whether both scales give one answer. Losses are in units of L(0).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from scipy.optimize import minimize

from learning_dynamics.runtime import generator
from learning_dynamics.saddles.skipping.algorithm import Skipped, skip_plateaus
from learning_dynamics.saddles.skipping.settings import Settings
from learning_dynamics.saddles.two_layer import Weights, gradient
from paper.saddles.efficient_algorithm.reference_runs import Reference, drawn, start_of

__all__ = ["Answer", "Rest", "answer", "compare", "find_rests", "lowered", "skip"]

BAND = 1e-3  # a rest: the loss stays within this
SHARE = 0.1  # for at least this share of all steps so far
LEAST = 0.2  # share of a predicted plateau that must be rest
SAME = 2e-3  # a saddle's loss and a rest's: twice the band


@dataclass(frozen=True)
class Rest:
    """begin, end : steps. level : the loss where it falls most slowly. high, low : the loss at both
    ends, further apart than the band where a rest goes on in another."""

    begin: int
    end: int
    level: float
    high: float
    low: float

    def near(self, level: float) -> bool:
        """Whether a saddle at this loss can be where it rests."""
        return self.low - SAME <= level <= self.high + SAME


def find_rests(steps: np.ndarray, losses: np.ndarray) -> list[Rest]:
    """Intervals in which a falling loss stays within `BAND` for `SHARE` of the steps so far.

    One that follows another without a gap continues it: a slow approach. The first begins at 0,
    the last, which need not be long, is where the run ends.
    """
    falling = np.minimum.accumulate(losses.astype(float))
    speed = -np.gradient(falling, steps)
    until = np.searchsorted(-falling, -falling + BAND, side="right") - 1
    found: list[list[int]] = []
    i = 0
    while i < len(steps):
        j = int(until[i])
        if j > i and steps[j] - steps[i] >= SHARE * steps[j]:
            if found and i == found[-1][1] + 1:
                found[-1][1] = j
            else:
                found.append([i, j])
            i = j
        i += 1
    return [
        Rest(
            int(steps[a]),
            int(steps[b]),
            float(falling[a + int(speed[a : b + 1].argmin())]),
            float(falling[a]),
            float(falling[b]),
        )
        for a, b in found
    ]


@dataclass(frozen=True)
class Answer:
    """What gradient descent does as epsilon goes to zero, as far as two scales say.

    rests : from the smaller scale, the last one the end. horizon : steps followed from there.
    why   : why it has no defined answer, or "".
    """

    rests: tuple[Rest, ...]
    horizon: int
    why: str


def answer(run: xr.Dataset, scales: Sequence[float]) -> Answer:
    """The answer of two runs (`reference_runs.reference`), or why they give none."""
    steps, curves = run.step.values, run.loss.values
    rests, ends = [], []
    for losses in curves:
        kept = np.isfinite(losses)
        if bool(run.rises.any()) or not kept.any():
            return Answer((), 0, "rises")
        rests.append(find_rests(steps[kept], losses[kept]))
        ends.append(int(steps[kept][-1]))
    large, small = rests
    found = tuple(small)
    if any(not own or own[-1].end < end for own, end in zip(rests, ends, strict=True)):
        return Answer(found, ends[1], "no end")
    if len(large) != len(small) or any(
        abs(a.level - b.level) > BAND for a, b in zip(large, small, strict=True)
    ):
        return Answer(found, ends[1], "scales differ")
    # A step at which something happens is tau log(1/epsilon) + const.: two scales say tau.
    part = math.log(scales[1]) / math.log(scales[1] / scales[0])
    before = 0.0
    for k, (a, b) in enumerate(zip(large, small, strict=True)):
        begun, ended = b.begin - a.begin, b.end - a.end
        weak = begun - before > LEAST * begun  # the drop before grows with log(1/epsilon)
        if k < len(small) - 1:
            weak = weak or b.end - b.begin < LEAST * part * (ended - before)
        if weak:
            return Answer(found, ends[1], "weak rest")
        before = ended
    return Answer(found, ends[1], "")


def skip(config: Reference, step_size: float) -> Skipped:
    """The algorithm on the same problem, from the same dormant units."""
    task = drawn(config.seed)
    return skip_plateaus(
        task.problem,
        width=task.width,
        activation=task.activation,
        loss=task.loss,
        settings=Settings(step_size=step_size),
        starts=start_of(task, config.seed, 1.0).units[0],
    )


def lowered(config: Reference, found: Skipped, size: float = 1e-2, trials: int = 3) -> float:
    """By how much the end can be lowered, in units of L(0), or less than zero.

    All m1 units, the dormant ones at zero, are moved at random by `size` of the largest unit, and
    descend (L-BFGS-B, at most 500 iterations).
    """
    task = drawn(config.seed)
    units = found.weights.units
    start = torch.zeros(task.width, units.shape[1], dtype=units.dtype)
    start[: len(units)] = units
    m0, best = len(task.problem.inputs), found.loss
    scale = float(units.norm(dim=1).max()) if len(units) else 1.0

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        s = torch.from_numpy(flat.reshape(start.shape))
        state = gradient(
            Weights(s[:, :m0], s[:, m0:].mT),
            task.problem,
            activation=task.activation,
            loss=task.loss,
        )
        return float(state.loss), state.gradients.units.numpy().ravel()

    for trial in range(trials):
        g = generator("random-two-layer/perturbed", config.seed, trial)
        moved = start + size * scale * torch.randn(start.shape, generator=g, dtype=units.dtype)
        options = {"maxiter": 500, "ftol": 0.0, "gtol": 1e-12}
        end = minimize(value, moved.numpy().ravel(), jac=True, method="L-BFGS-B", options=options)
        best = min(best, float(end.fun))
    return (found.loss - best) / found.saddles[0].loss


def compare(given: Answer, found: Skipped, scale: float, step_size: float) -> str:
    """The class of a defined answer and a path: "same", or what differs.

    "ends above", "ends below": the loss at the end. Else "skips one": gradient descent rests where
    the path has no saddle; "visits another": the path has a saddle, with a plateau long enough to
    be seen, where gradient descent does not rest. What lies beyond the horizon is not compared.
    """
    first = found.saddles[0].loss
    path = [(s.loss / first, s.plateau_steps(scale, step_size)) for s in found.saddles]
    last = given.rests[-1]
    here = [k for k, (level, _) in enumerate(path) if last.near(level)]
    if here and path[here[-1]][1] > 0.5 * (given.horizon - last.begin):
        path = path[: here[-1] + 1]  # the end is left later than was followed
    end = path[-1][0]
    if end > last.level + SAME:
        return "ends above"
    if end < last.level - SAME:
        return "ends below"
    if not all(any(r.near(level) for level, _ in path) for r in given.rests):
        return "skips one"
    for level, steps in path:
        until = min((r.begin for r in given.rests if r.level < level), default=last.begin)
        if steps > LEAST * until and not any(r.near(level) for r in given.rests):
            return "visits another"
    return "same"
