"""The run that the website's live figure computes in the browser, computed by the package."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.problems import Moments, Problem
from learning_dynamics.runtime import Trajectory, check_positive
from learning_dynamics.saddles.theory.staircase import Staircase, predict_staircase
from learning_dynamics.saddles.two_layer import Weights, gradient_descent, uniform_grid

__all__ = ["Live", "LiveRun", "moments_of", "run_live", "start_directions"]

UNITS = 12


@dataclass(frozen=True)
class LiveRun:
    """The sliders: anisotropy = ratio of the two input variances (>= 1), angle in degrees."""

    init_scale: float = 1e-6
    step_size: float = 0.05
    anisotropy: float = 4.0
    angle: float = 30.0
    target: tuple[float, float] = (2.0, 1.2)
    steps: int = 600


@dataclass(frozen=True)
class Live:
    """Trajectory (observables loss and units at every step) and prediction of one setting."""

    config: LiveRun
    trajectory: Trajectory
    staircase: Staircase


def _rotation(angle: float) -> Float[Tensor, "2 2"]:
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s], [s, c]], dtype=torch.float64)


def moments_of(config: LiveRun) -> tuple[Moments, Float[Tensor, "2 2"]]:
    """Second moments and teacher: axes of the task at 0.4 rad, of the inputs `angle` further."""
    check_positive("anisotropy", config.anisotropy)
    axes = _rotation(0.4 + math.radians(config.angle))
    root = math.sqrt(config.anisotropy)
    xx = (axes * torch.tensor([root, 1 / root], dtype=torch.float64)) @ axes.mT
    scaled = _rotation(1.1) * torch.tensor(config.target, dtype=torch.float64)
    teacher = scaled @ _rotation(0.4).mT
    yx = teacher @ xx
    return Moments(xx, yx, yx @ teacher.mT), teacher


def start_directions() -> Float[Tensor, "units 4"]:
    """Rows of S at the start before the factor epsilon: cosines at golden-ratio angles."""
    golden = (math.sqrt(5) - 1) / 2
    k = torch.arange(1, 4 * UNITS + 1, dtype=torch.float64)
    return torch.cos(2 * math.pi * ((k * golden) % 1)).reshape(UNITS, 4)


def run_live(config: LiveRun = LiveRun()) -> Live:
    """Train at the given slider positions; samples are the two axes of Sigma_xx, n = 2."""
    moments, teacher = moments_of(config)
    values, vectors = torch.linalg.eigh(moments.xx)
    inputs = (2 * values).sqrt() * vectors  # X X'/2 = Sigma_xx
    s = config.init_scale * start_directions()
    trajectory = gradient_descent(
        Weights(s[None, :, :2].contiguous(), s[None, :, 2:].mT.contiguous()),
        Problem(inputs, teacher @ inputs, teacher),
        step_size=config.step_size,
        steps=config.steps,
        record_at=uniform_grid(config.steps, 1),
        observables=("loss", "units"),
    )
    return Live(config, trajectory, predict_staircase(moments, config.step_size))
