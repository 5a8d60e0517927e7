"""Predicted against measured times of all drops, from epsilon = 1e-8 to far below rounding."""

from dataclasses import dataclass

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.saddles.linear_nets.modes import follow_modes, stack_moments
from learning_dynamics.saddles.theory import staircase
from learning_dynamics.saddles.theory.stages import crossing_steps
from paper.saddles.random_linear import problems_with_gaps, unit_starts

__all__ = ["Config", "run", "without_recursion"]


@dataclass(frozen=True)
class Config:
    """problems, scales (epsilon, falling), eta s_1, whether to rotate (see `saddles.modes`)."""

    problems: int = 10
    scales: tuple[float, ...] = (1e-8, 1e-14, 1e-20, 1e-32, 1e-48)
    relative_step: float = 0.3
    rotate: bool = True
    covariance: str = "generic"
    every: int = 2
    width: int = 10


def without_recursion(
    rates: Float[Tensor, "*runs mode"], step_size: Tensor
) -> Float[Tensor, "*runs drop"]:
    """Times (in log(1/epsilon)) if each mode grew at its rate at the origin all along."""
    return 1 / staircase.finite_step_rate(rates, step_size)


def run(config: Config | None = None) -> xr.Dataset:
    """Run every problem at every scale until after its last drop.

    measured, predicted, error (problem, scale, drop) : steps to the middle of each drop, and
    measured/predicted - 1; naive : the same as if mode k grew at sigma_k(Sigma_yx) all along.
    loss (problem, scale, step); level (problem, rank).
    """
    config = config or Config()
    batch = [p.moments() for p in problems_with_gaps(config.problems, covariance=config.covariance)]
    each, count = stack_moments(batch), len(config.scales)
    eta = config.relative_step / staircase.predict_staircase(each).escape_rates[:, 0]
    theory = staircase.predict_staircase(each, eta)
    scales = torch.tensor(config.scales, dtype=torch.float64)
    # What grows is S, whose singular values start near epsilon sqrt(m1).
    size = scales * config.width**0.5
    predicted = torch.stack([theory.drop_steps(float(e)) for e in size], dim=1)
    naive = without_recursion(theory.rates[:, 0], eta)[:, None, :] * (
        -size.log()[:, None] / eta[:, None, None]
    )
    track = follow_modes(
        stack_moments(batch, count),
        unit_starts(len(batch), config.scales, (config.width, 10)),
        step_size=eta.repeat_interleave(count),
        steps=int(1.15 * float(predicted.max())),
        every=config.every,
        rotate_every=20 if config.rotate else None,
        keep=(),
    )
    middle = ((theory.levels[:, 1:] + theory.levels[:, :-1]) / 2).repeat_interleave(count, 0)
    measured = crossing_steps(track.losses, middle, track.steps).reshape(predicted.shape)
    drops = ("problem", "scale", "drop")
    return xr.Dataset(
        {
            "measured": (drops, measured),
            "predicted": (drops, predicted),
            "error": (drops, measured / predicted - 1),
            "naive": (drops, naive),
            "loss": (("problem", "scale", "step"), track.losses.unflatten(0, (-1, count))),
            "level": (("problem", "rank"), theory.levels),
        },
        {
            "scale": list(config.scales),
            "step": track.steps,
            "drop": range(1, predicted.shape[-1] + 1),
        },
    )
