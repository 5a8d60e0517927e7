"""Measurements of the skipping algorithm: figure 2, fidelity, cost against scale, sensitivity."""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.runtime import generator
from learning_dynamics.saddles.linear_nets.linear import linear_descent
from learning_dynamics.saddles.skipping.algorithm import Skipped, skip_plateaus
from learning_dynamics.saddles.skipping.settings import Settings
from learning_dynamics.saddles.theory.stages import first_record
from learning_dynamics.saddles.theory.staircase import levels, predict_staircase
from learning_dynamics.saddles.two_layer import gradient_descent, initialise
from paper.claims import Evidence
from paper.saddles.efficient_algorithm.problems import Case, case
from paper.saddles.saddle_to_saddle.path import SaddleToSaddle, problem_of, start_of

__all__ = [
    "ScaleCost",
    "SecondFigure",
    "level_gaps",
    "measure_visits",
    "scale_cost",
    "second_figure",
    "skip_case",
]


def skip_case(c: Case, *, seed: int = 0, **settings: Any) -> Skipped:
    """`skip_plateaus` on a case of the comparison; dormant units drawn from `seed`."""
    return skip_plateaus(
        c.problem,
        width=c.width,
        activation=c.activation,
        loss=c.loss,
        architecture="diagonal" if c.diagonal else "dense",
        generator=generator("rivals/start", seed),
        settings=Settings(**settings),
    )


def level_gaps(found: Skipped, c: Case) -> list[float]:
    """|L - L_k|/L_k (L_0 where L_k = 0) at saddles 1..K; infinite for a missed one."""
    exact = c.levels.tolist()
    gaps = []
    for k in range(1, len(exact)):
        scale = exact[k] if exact[k] > 1e-9 * exact[0] else exact[0]
        missed = k >= len(found.saddles)
        gaps.append(math.inf if missed else abs(found.saddles[k].loss - exact[k]) / scale)
    return gaps


@dataclass(frozen=True)
class SecondFigure:
    """The same problem by gradient descent and without plateaus (Arata's thesis, figure 2).

    losses : gradient descent per step. skipped : thesis's own descent phase, same step size.
    fast : ours. levels : reduced-rank losses.
    """

    losses: Float[Tensor, " steps"]
    skipped: Skipped
    fast: Skipped
    levels: Float[Tensor, " saddles"]


def second_figure(config: SaddleToSaddle = SaddleToSaddle(), jump: float = 0.1) -> SecondFigure:
    """Run figure 1's problem with gradient descent and with both phases of the algorithm.

    jump : of the thesis's phase; a small one keeps the shape of each drop.
    """
    problem, eta = problem_of(config), config.step_size
    start, grid = start_of(config, problem), torch.arange(config.steps + 1)
    run = gradient_descent(start, problem, step_size=eta, steps=config.steps, record_at=grid)
    thesis = Settings(phase="gradient_descent", step_size=eta, jump=jump, tolerance=1e-3)
    skipped = skip_plateaus(problem, width=config.units, settings=thesis)
    fast = skip_plateaus(problem, width=config.units)
    exact = levels(problem.moments())[: len(config.target_spectrum) + 1]
    return SecondFigure(run["loss"][0], skipped, fast, exact)


def measure_visits(*, quick: bool = False) -> Evidence:
    """`saddles/skip-visits-every-saddle`: largest relative distance from the exact level.

    measured: one number per problem P1, P2, P3, P5, the largest over saddles and instances (draws
    of the problem; P5: of the dormant units); missed and extra saddles counted, and ends
    without a proof that they are minima (per problem, of `ends` each). The full measurement takes
    12 draws and both descent phases.
    """
    draws = 10 if quick else 12
    phases = ("fast",) if quick else ("fast", "gradient_descent")
    worst, uncertified, missed, extra = [], [], 0, 0
    for name in ("P1", "P2", "P3", "P5"):
        gaps, open_ends = [], 0
        for seed, phase in itertools.product(range(draws), phases):
            c = case(name, seed)
            step = None if phase == "fast" else 0.5 if name == "P5" else 0.35 * c.largest_step
            found = skip_case(c, seed=seed, phase=phase, step_size=step)
            own = level_gaps(found, c)
            missed += sum(not g <= 1e-2 for g in own)
            extra += max(0, len(found.saddles) - len(c.levels))
            open_ends += found.status != "global"
            gaps += [g for g in own if math.isfinite(g)]
        worst.append(max(gaps))
        uncertified.append(open_ends)
    details: dict[str, float | list[int]] = {
        "missed": missed,
        "extra": extra,
        "instances": draws,
        "uncertified": uncertified,
        "ends": draws * len(phases),
    }
    return Evidence(worst, 0.0, 1e-6, list(range(draws)), details)


@dataclass(frozen=True)
class ScaleCost:
    """Gradient evaluations against the initial scale, linear net, squared loss.

    scales : epsilon. descent : evaluations of gradient descent until the last saddle (1e-6 of
    the first loss). slope : fitted, per unit of log(1/epsilon), over epsilon <= 1e-14, with its
    prediction. skip, thesis : evaluations of the skipping algorithm, fast and by gradient
    descent at the same step size; no scale enters.
    """

    scales: tuple[float, ...]
    descent: list[int]
    slope: float
    predicted: float
    skip: int
    thesis: int


def scale_cost(scales: tuple[float, ...] = (1e-2, 1e-8, 1e-14, 1e-40, 1e-100)) -> ScaleCost:
    """Cost of the whole staircase of P3 against the initial scale, step size at 0.35 of
    `largest_step`."""
    c = case("P3")
    eta = 0.35 * c.largest_step
    exact, descent = c.levels, []
    predicted = float(predict_staircase(c.problem.moments(), eta).times[-1]) / eta
    for scale in scales:
        start = initialise((6, 10, 4), scale, [generator("rivals/start", 0)])
        steps = 10 * (60 + int(0.15 * predicted * math.log(1 / scale)))
        grid = torch.arange(0, steps + 1, 10)
        run = linear_descent(start, c.problem, step_size=eta, steps=steps, record_at=grid)
        arrived = run["loss"][0] - exact[-1] <= 1e-6 * exact[0]
        descent.append(int(run.steps[first_record(arrived)]))
    small = np.array(scales) <= 1e-14
    slope = float(np.polyfit(-np.log(scales)[small], np.array(descent)[small], 1)[0])
    fast, thesis = skip_case(c), skip_case(c, phase="gradient_descent", step_size=eta)
    spent = (found.saddles[-1].evaluations for found in (fast, thesis))
    return ScaleCost(scales, descent, slope, predicted, *spent)
