"""How many gradient evaluations the quasi-Newton phase saves, against baselines at their best."""

import math
import statistics
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.runtime import Diverged, generator
from learning_dynamics.saddles.linear_nets.modes import steps_until
from learning_dynamics.saddles.two_layer import Weights, initialise
from paper.claims import Evidence
from paper.saddles.efficient_algorithm.measurements import level_gaps, skip_case
from paper.saddles.efficient_algorithm.methods import arrival, best_settings, run_method
from paper.saddles.efficient_algorithm.problems import Case, case

__all__ = ["Cheapest", "cheapest_skip", "descent_cost", "measure_speed"]

#: Tolerances of a descent that are searched, a factor 10^(1/8) apart.
TOLERANCES = tuple(10.0 ** (-2 - k / 8) for k in range(25))

#: The same for a short measurement.
COARSE = TOLERANCES[4:17:3]

#: Step sizes searched, in units of `largest_step`, a factor 2^(1/4) apart.
STEPS = tuple(2.0 ** (-k / 4) for k in range(-2, 17))

#: Where a walk over steps and tolerances looks next: how many places of the two on.
MOVES = ((0, -4), (0, -2), (0, -1), (-1, 0), (1, 0), (-1, 1), (1, -1), (-2, 0), (-2, 1))

#: Scales from which gradient descent is counted.
SCALES = (1e-8, 1e-14, 1e-100)


@dataclass(frozen=True)
class Cheapest:
    """Fewest evaluations that visit every saddle, with their tolerance and step (None: fast).

    stages : evaluations of each stage, from one saddle to the next, direction search included.
    """

    evaluations: int
    tolerance: float
    step: float | None
    stages: tuple[int, ...]


def _try(c: Case, phase: str, tolerance: float, step: float | None, most: int) -> Cheapest | None:
    options: dict[str, Any] = {} if step is None else {"step_size": step * c.largest_step}
    try:
        found = skip_case(c, phase=phase, tolerance=tolerance, max_steps=most, **options)
    except Diverged:
        return None
    if len(found.saddles) != len(c.levels) or max(level_gaps(found, c)) > 1e-6:
        return None
    spent = torch.tensor([s.evaluations for s in found.saddles])
    return Cheapest(int(spent[-1]), tolerance, step, tuple(spent.diff().tolist()))


def cheapest_skip(
    c: Case, phase: str, *, tolerances: tuple[float, ...] = TOLERANCES, max_steps: int = 3000
) -> Cheapest:
    """Fewest gradient evaluations with which `phase` visits all saddles of `c` to 1e-6.

    "fast": all `tolerances` are tried. "gradient_descent": tolerance and step size are
    walked from 1e-4 and 0.71 of `largest_step` to ever better neighbours (looser, larger, smaller
    steps) until none is. Raises ValueError if nothing comes so near.
    """
    known: dict[tuple[int, int], Cheapest | None] = {}
    best: Cheapest | None = None
    if phase == "fast":
        tried = [_try(c, phase, t, None, max_steps) for t in tolerances]
        best = min((t for t in tried if t is not None), key=lambda t: t.evaluations, default=None)
    places = [(i, k) for i in range(4, len(STEPS), 2) for k in (16, 24)]  # 0.71 first
    while phase != "fast" and places:
        around, places = places, []
        for i, k in around:
            if not (0 <= i < len(STEPS) and 0 <= k < len(TOLERANCES)):
                continue
            if (i, k) not in known:
                most = best.evaluations if best else max_steps
                known[i, k] = _try(c, phase, TOLERANCES[k], STEPS[i], most)
            new = known[i, k]
            if new is not None and (best is None or new.evaluations < best.evaluations):
                best, places = new, [(i + di, k + dk) for di, dk in MOVES]
                break
    if best is None:
        raise ValueError(f"phase = {phase!r}: the saddles of {c.name} are not met to 1e-6")
    return best


def descent_cost(c: Case, init_scale: float, step: float) -> int:
    """Gradient evaluations of gradient descent from `init_scale` until the last saddle.

    step : in units of `largest_step`. Linear nets: on graded rows, exact at every scale; ReLU
    and diagonal nets have no floor, since each unit keeps its own rows.
    """
    if c.kind != "linear":
        settings = {"step": step, "init_scale": init_scale}
        cost = arrival(run_method("gd-1e-8", c, settings, max_steps=20_000), c)
        if cost is None:
            raise ValueError(f"init_scale = {init_scale}: gradient descent missed the end")
        return int(cost)
    levels, last = c.levels, c.outputs[-1]

    def there(value: Float[Tensor, ""], outputs: Float[Tensor, "m2 n"]) -> bool:
        close = abs(float(value - levels[-1])) <= 1e-6 * float(levels[0])
        return close and float((outputs - last).norm() / last.norm()) <= 1e-2

    sizes = (len(c.problem.inputs), c.width, len(c.problem.targets))
    w = initialise(sizes, init_scale, [generator("rivals/start", 0)])
    options: dict[str, Any] = {"step_size": step * c.largest_step, "loss": c.loss}
    thin = Weights(w.w1[0], w.w2[0])
    return 1 + steps_until(thin, c.problem, there, max_steps=20_000, **options)


def measure_speed(*, quick: bool = False) -> Evidence:
    """`saddles/skip-speed`: evaluations of each baseline over those of `fast`.

    measured: medians over draws of thesis's algorithm on P3 and P9 (each at the best of its step
    sizes and tolerances that visits all saddles to 1e-6), then gradient descent from 1e-8 on P5
    (best stable step size, until the last saddle). details: every draw; gradient descent from
    1e-8, 1e-14 and 1e-100 on P3, P5 and P9 (draw 0) at the best step size for 1e-8; slope: its
    evaluations per log(1/epsilon) on P9 between the last two, over the sum of predicted waits.
    Short: draw 0 of P3, draws 0 and 1 of P9, gradient descent on P5 only.
    """
    seeds, grid = (range(2), COARSE) if quick else (range(6), TOLERANCES)
    details: dict[str, Any] = {}
    measured, fast = [], {}
    for name in ("P3", "P9"):
        cases = [case(name, seed) for seed in (range(1) if quick and name == "P3" else seeds)]
        ours = [cheapest_skip(c, "fast", tolerances=grid) for c in cases]
        theirs = [cheapest_skip(c, "gradient_descent") for c in cases]
        ratios = [b.evaluations / a.evaluations for a, b in zip(ours, theirs, strict=True)]
        details[f"ratios_{name}"] = ratios
        details[f"fast_{name}"] = [a.evaluations for a in ours]
        details[f"thesis_{name}"] = [b.evaluations for b in theirs]
        details[f"stages_{name}"] = ours[0].stages
        details[f"thesis_stages_{name}"] = theirs[0].stages
        fast[name] = ours[0].evaluations
        measured.append(statistics.median(ratios))
    fast["P5"] = cheapest_skip(case("P5"), "fast", tolerances=grid).evaluations
    details["fast_P5"] = [fast["P5"]]
    for name in ("P5",) if quick else ("P3", "P5", "P9"):
        c = case(name)
        settings, _ = best_settings("gd-1e-8", c, max_steps=1500)
        costs = [descent_cost(c, e, settings["step"]) for e in SCALES[: 1 if quick else 3]]
        details[f"descent_{name}"] = [n / fast[name] for n in costs]
    if not quick:  # the last of these is P9
        eta = settings["step"] * c.largest_step
        path = skip_case(c, step_size=eta).saddles[:-1]
        waits = [s.escape.waiting for s in path if s.escape is not None]
        per_log = (costs[2] - costs[1]) / math.log(SCALES[1] / SCALES[2])
        details["slope_P9"] = per_log * eta / sum(waits)
    measured.append(details["descent_P5"][0])
    return Evidence(measured, [5.0, 4.0, 2.0], 0.0, list(seeds), details)
