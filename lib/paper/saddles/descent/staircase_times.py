"""Predicted against measured times of all drops, from epsilon = 1e-8 to far below rounding."""

from dataclasses import dataclass

import torch
import xarray as xr

from learning_dynamics.saddles.linear_nets.modes import follow_modes, stack_moments
from learning_dynamics.saddles.theory.stages import crossing_steps
from learning_dynamics.saddles.theory.staircase import finite_step_rate
from paper.saddles.random_linear import at_relative_step, moments_with_gaps, unit_starts

__all__ = ["Config", "run"]


@dataclass(frozen=True)
class Config:
    """problems, scales (epsilon, falling), eta s_1, width."""

    problems: int = 10
    scales: tuple[float, ...] = (1e-8, 1e-14, 1e-20, 1e-32, 1e-48)
    relative_step: float = 0.3
    width: int = 10


def run(config: Config = Config()) -> xr.Dataset:
    """Run every problem at every scale until after its last drop.

    measured, predicted, error (problem, scale, drop) : steps to the middle of each drop, and
    measured/predicted - 1; naive : the same as if mode k grew at sigma_k(Sigma_yx) all along.
    loss (problem, scale, step); level (problem, rank).
    """
    batch, count = moments_with_gaps(config.problems), len(config.scales)
    _, eta, theory = at_relative_step(batch, config.relative_step)
    scales = torch.tensor(config.scales, dtype=torch.float64)
    # What grows is S, whose singular values start near epsilon sqrt(m1).
    size = scales * config.width**0.5
    predicted = torch.stack([theory.drop_steps(float(e)) for e in size], dim=1)
    at_origin = finite_step_rate(theory.rates[:, 0], eta) * eta[:, None]
    naive = -size.log()[:, None] / at_origin[:, None, :]
    track = follow_modes(
        stack_moments(batch, count),
        unit_starts(len(batch), config.scales, (config.width, 10)),
        step_size=eta.repeat_interleave(count),
        steps=int(1.15 * float(predicted.max())),
        keep=(),
    )
    middle = ((theory.levels[:, 1:] + theory.levels[:, :-1]) / 2).repeat_interleave(count, 0)
    measured = crossing_steps(track.losses, middle, track.steps).reshape(predicted.shape)
    drops = ("problem", "scale", "drop")
    variables = {
        "measured": (drops, measured),
        "predicted": (drops, predicted),
        "error": (drops, measured / predicted - 1),
        "naive": (drops, naive),
        "loss": (("problem", "scale", "step"), track.losses.unflatten(0, (-1, count))),
        "level": (("problem", "rank"), theory.levels),
    }
    coords = {"scale": list(config.scales), "drop": range(1, predicted.shape[-1] + 1)}
    return xr.Dataset(variables, coords | {"step": track.steps})
