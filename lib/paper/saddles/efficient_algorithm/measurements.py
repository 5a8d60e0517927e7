"""Measurements of the skipping algorithm: figure 2, fidelity, cost against scale, sensitivity."""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.problems import Problem
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
    "sensitivity",
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
    fast : ours. levels : reduced-rank losses. config : of figure 1.
    """

    config: SaddleToSaddle
    losses: Float[Tensor, " steps"]
    skipped: Skipped
    fast: Skipped
    levels: Float[Tensor, " saddles"]


def second_figure(config: SaddleToSaddle = SaddleToSaddle(), jump: float = 0.1) -> SecondFigure:
    """Run figure 1's problem with gradient descent and with both phases of the algorithm.

    jump : of the thesis's phase; a small one keeps the shape of each drop.
    """
    problem = problem_of(config)
    run = gradient_descent(
        start_of(config, problem),
        problem,
        step_size=config.step_size,
        steps=config.steps,
        record_at=torch.arange(config.steps + 1),
        observables=("loss",),
    )
    skipped = skip_plateaus(
        problem,
        width=config.units,
        settings=Settings(
            phase="gradient_descent", step_size=config.step_size, jump=jump, tolerance=1e-3
        ),
    )
    fast = skip_plateaus(problem, width=config.units)
    rank = len(config.target_spectrum)
    return SecondFigure(
        config, run["loss"][0], skipped, fast, levels(problem.moments())[: rank + 1]
    )


def measure_visits(*, quick: bool = False) -> Evidence:
    """`saddles/skip-visits-every-saddle`: largest relative distance from the exact level.

    measured: one number per problem P1, P2, P3, P5, the largest over saddles and instances (ten
    draws of the problem; P5: of the dormant units); missed and extra saddles counted, and ends
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
            step = {} if phase == "fast" else {"step_size": 0.35 * c.largest_step}
            if name == "P5" and step:
                step = {"step_size": 0.5}
            found = skip_case(c, seed=seed, phase=phase, **step)
            found_gaps = level_gaps(found, c)
            missed += sum(not g <= 1e-2 for g in found_gaps)
            extra += max(0, len(found.saddles) - len(c.levels))
            open_ends += found.status != "global"
            gaps += [g for g in found_gaps if math.isfinite(g)]
        worst.append(max(gaps))
        uncertified.append(open_ends)
    return Evidence(
        measured=worst,
        predicted=0.0,
        tolerance=1e-6,
        seeds=list(range(draws)),
        details={
            "missed": missed,
            "extra": extra,
            "instances": draws,
            "uncertified": uncertified,
            "ends": draws * len(phases),
        },
    )


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
    step_size: float


def _steps_to_end(problem: Problem, init_scale: float, step_size: float, steps: int) -> int:
    w = initialise((6, 10, 4), init_scale, [generator("rivals/start", 0)])
    run = linear_descent(
        w, problem, step_size=step_size, steps=steps, record_at=torch.arange(0, steps + 1, 10)
    )
    exact = levels(problem.moments())
    return int(run.steps[first_record(run["loss"][0] - exact[-1] <= 1e-6 * exact[0])])


def scale_cost(
    scales: tuple[float, ...] = (1e-2, 1e-4, 1e-8, 1e-14, 1e-30, 1e-60, 1e-100), seed: int = 0
) -> ScaleCost:
    """Cost of the whole staircase of P3 against the initial scale, step size at 0.35 of
    `largest_step`."""
    c = case("P3", seed)
    eta = 0.35 * c.largest_step
    predicted = float(predict_staircase(c.problem.moments(), eta).times[-1]) / eta
    steps = [
        _steps_to_end(c.problem, e, eta, 10 * (60 + int(0.15 * predicted * math.log(1 / e))))
        for e in scales
    ]
    small = np.array(scales) <= 1e-14
    slope = float(np.polyfit(-np.log(scales)[small], np.array(steps)[small], 1)[0])
    fast = skip_case(c)
    thesis = skip_case(c, phase="gradient_descent", step_size=eta)
    return ScaleCost(
        scales,
        steps,
        slope,
        predicted,
        fast.saddles[-1].evaluations,
        thesis.saddles[-1].evaluations,
        eta,
    )


def sensitivity(name: str = "P3") -> list[dict[str, float | str]]:
    """Evaluations and worst level gap of both phases when one choice is changed at a time.

    Rows: phase, what, value, evaluations, gap (infinite if a saddle is missed).
    """
    rows: list[dict[str, float | str]] = []
    changes = [("jump", v) for v in (0.03, 0.1, 0.3, 1.0)]
    changes += [("tolerance", v) for v in (1e-2, 1e-3, 1e-4, 1e-5)]
    changes += [("step_size", v) for v in (0.71, 0.35, 0.18)] + [("seed", v) for v in range(4)]
    for phase, (what, value) in itertools.product(("fast", "gradient_descent"), changes):
        if phase == "fast" and what == "step_size":
            continue
        c = case(name, int(value) if what == "seed" else 0)
        options: dict[str, Any] = {"tolerance": 1e-4}
        if phase == "gradient_descent":
            options["step_size"] = 0.5 * c.largest_step
        if what == "step_size":
            options["step_size"] = float(value) * c.largest_step
        elif what != "seed":
            options[what] = float(value)
        found = skip_case(c, phase=phase, **options)
        gap = max(level_gaps(found, c))
        rows.append(
            {
                "phase": phase,
                "what": what,
                "value": float(value),
                "gap": gap,
                "evaluations": found.saddles[-1].evaluations,
            }
        )
    return rows
