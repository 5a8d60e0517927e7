"""Where gradient descent from two small scales rests, on random problems (`random_two_layer`).

This is what the algorithm without plateaus is held against, so nothing of the algorithm is used.
Losses are in units of the first one, L(0).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from learning_dynamics.problems import TwoLayerProblem, random_two_layer
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.two_layer import (
    Weights,
    geometric_grid,
    gradient_descent,
    initialise,
)
from paper.sweep import Experiment

__all__ = ["Reference", "drawn", "reference", "start_of", "step_of"]

#: Steps between looks at whether a run has ended.
LOOKS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
MOVED = 1e-3  # the end: the loss has fallen by less during the last nine tenths of the steps


@dataclass(frozen=True)
class Reference:
    """One problem of the prior. scales : epsilon, falling; steps : at most, per run."""

    seed: int
    scales: tuple[float, float] = (1e-8, 1e-14)
    steps: int = 30_000


def drawn(seed: int) -> TwoLayerProblem:
    """Problem number `seed` of the prior."""
    return random_two_layer(generator("random-two-layer", seed))


def start_of(task: TwoLayerProblem, seed: int, scale: float) -> Weights:
    """The start of one run, (1, m1, m0) and (1, m2, m1)."""
    sizes = (len(task.problem.inputs), task.width, len(task.problem.targets))
    return initialise(sizes, scale, [generator("random-two-layer/start", seed)])


def step_of(task: TwoLayerProblem) -> float:
    """eta = 0.4/s_1, s_1 the largest rate at the origin of a linear net (1 where s_1 = 0)."""
    g = task.loss.gradient(torch.zeros_like(task.problem.targets), task.problem.targets)
    rate = float(torch.linalg.matrix_norm(g @ task.problem.inputs.mT, 2))
    return 0.4 / rate if rate > 0 else 1.0


def _descend(config: Reference, task: TwoLayerProblem, scale: float, eta: float) -> Tensor:
    """L/L(0) of one run at the steps of `_grid`, until it has ended, rises or diverges."""
    weights, grid, begin = start_of(task, config.seed, scale), _grid(config.steps), 0
    zero = torch.zeros_like(task.problem.targets)
    first = task.loss.value(zero, task.problem.targets)
    losses, at_looks = torch.ones(0, dtype=torch.float64), [2.0, 1.0]
    for end in (look for look in LOOKS if look <= config.steps):
        at = grid[(grid >= begin) & (grid <= end)]
        run = gradient_descent(
            weights,
            task.problem,
            step_size=eta,
            steps=end - begin,
            activation=task.activation,
            loss=task.loss,
            record_at=at - begin,
            on_divergence="mark",
        )
        piece = run["loss"][0] / first
        losses = torch.cat([losses, piece[min(begin, 1) :]])  # its first record is there already
        at_looks.append(float(piece[-1]))
        ended = at_looks[-3] - at_looks[-1] <= MOVED or at_looks[-1] <= 1e-6
        if ended or _rises(piece):
            break
        weights, begin = run.final, end
    return losses


def _grid(most: int) -> Tensor:
    looks = torch.tensor([look for look in LOOKS if look < most])
    return torch.unique(torch.cat([geometric_grid(most, int(math.log(most) / 0.008)), looks]))


def _rises(losses: Tensor) -> bool:
    return not bool(torch.isfinite(losses).all() and (losses.diff() <= 1e-6).all())


def reference(config: Reference) -> xr.Dataset:
    """Gradient descent from both scales.

    loss (scale, step) : L/L(0), single precision, NaN after the run ended. rises (scale) : it rose
    or diverged at this step size and at a quarter and a sixteenth of it. step_size : eta.
    """
    task, grid = drawn(config.seed), _grid(config.steps)
    for share in (1.0, 0.25, 0.0625):
        eta = share * step_of(task)
        curves = [_descend(config, task, scale, eta) for scale in config.scales]
        rises = [_rises(curve) for curve in curves]
        if not any(rises):
            break
    losses = np.full((2, len(grid)), np.nan, dtype=np.float32)
    for row, curve in zip(losses, curves, strict=True):
        row[: len(curve)] = curve
    return xr.Dataset(
        {"loss": (("scale", "step"), losses), "rises": ("scale", rises), "step_size": ((), eta)},
        coords={"step": grid.numpy()},
    )


EXPERIMENT = Experiment("skip-reference", reference)
