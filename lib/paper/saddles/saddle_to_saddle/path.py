"""The run behind figure 1: from saddle to saddle, seen in parameter space and in the loss.

Arata's thesis prints the shape of this figure without sizes, data or step size; the values below
are ours.
"""

from dataclasses import dataclass

import torch
import xarray as xr

from learning_dynamics.problems import Problem, linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.theory.stages import find_stages
from learning_dynamics.saddles.theory.staircase import predict_staircase
from learning_dynamics.saddles.two_layer import Weights, gradient_descent, initialise, uniform_grid

__all__ = ["SaddleToSaddle", "problem_of", "run", "start_of"]


@dataclass(frozen=True)
class SaddleToSaddle:
    """Generic inputs (m0 = 6), rank-3 target, m2 = 4, width 10; `seed` names problem and start."""

    seed: int = 0
    target_spectrum: tuple[float, ...] = (3.0, 1.5, 0.6)
    units: int = 10
    init_scale: float = 1e-8
    step_size: float = 0.05
    steps: int = 700
    every: int = 1


def problem_of(config: SaddleToSaddle) -> Problem:
    """The learning problem of `config`, one run: X (m0, n), Y (m2, n)."""
    return linear_teacher(
        generator=generator("saddle-to-saddle", config.seed), target_spectrum=config.target_spectrum
    )


def start_of(config: SaddleToSaddle, problem: Problem) -> Weights:
    """The initial weights of `config`, (1, m1, m0) and (1, m2, m1)."""
    m0, m2 = problem.inputs.shape[-2], problem.targets.shape[-2]
    start = generator("saddle-to-saddle/start", config.seed)
    return initialise((m0, config.units, m2), config.init_scale, [start])


def run(config: SaddleToSaddle = SaddleToSaddle()) -> xr.Dataset:
    """Train once and place the path in the space that its saddles span.

    loss (step), singular_value (step, mode) : of the net and of S.
    level (rank) : theory's; plateau_step (rank) : where the loss is slowest.
    position (step, direction) : parameters (W1, W2) along the orthonormal directions that lead from
    saddle 0 to 1, from 1 to 2, and from 2 to the end. captured : smallest share, over the records,
    of their squared length in that span (away from the start, |S| > 0.1 |S end|).
    """
    problem = problem_of(config)
    trajectory = gradient_descent(
        start_of(config, problem),
        problem,
        step_size=config.step_size,
        steps=config.steps,
        record_at=uniform_grid(config.steps, config.every),
        observables=("loss", "units", "unit_singular_values"),
    )
    staircase = predict_staircase(problem.moments(), config.step_size)
    rank = len(config.target_spectrum)
    levels = staircase.levels[None, : rank + 1]
    stages = find_stages(trajectory["loss"], levels, trajectory.steps)
    path = trajectory["units"][0].flatten(1)  # (records, parameters)
    at = torch.searchsorted(trajectory.steps, stages.plateau_steps[0, 1:].long())
    saddles = torch.cat([torch.zeros_like(path[:1]), path[at]])
    directions = torch.linalg.qr(saddles.diff(dim=0).mT)
    coordinates = path @ (directions.Q * torch.sign(torch.diagonal(directions.R)))
    length = path.norm(dim=1)
    away = length > 0.1 * length[-1]
    share = (coordinates.norm(dim=1) / length).square()[away]
    variables = {
        "loss": ("step", trajectory["loss"][0]),
        "singular_value": (("step", "mode"), trajectory["unit_singular_values"][0]),
        "level": ("rank", levels[0]),
        "plateau_step": ("rank", stages.plateau_steps[0]),
        "position": (("step", "direction"), coordinates),
        "captured": share.min(),
    }
    return xr.Dataset(variables, {"step": trajectory.steps})
