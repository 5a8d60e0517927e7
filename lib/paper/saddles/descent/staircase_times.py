"""Predicted against measured times of all drops, from epsilon = 1e-8 to far below rounding."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.saddles.linear_nets.modes import ModeRun, follow_modes, stack_moments
from learning_dynamics.saddles.theory import staircase
from learning_dynamics.saddles.theory.stages import crossing_steps
from paper.saddles.random_linear import problems_with_gaps, unit_starts

__all__ = ["Config", "Times", "run", "without_recursion"]


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


@dataclass(frozen=True)
class Times:
    """measured, predicted: (problem, scale, drop) steps to the middle of each drop.

    naive : (problem, scale, drop), as if mode k grew at sigma_k(Sigma_yx) from the start.
    track : the runs, (problem x scale, ...); levels : (problem, level).
    """

    scales: Float[Tensor, " scale"]
    measured: Float[Tensor, "problem scale drop"]
    predicted: Float[Tensor, "problem scale drop"]
    naive: Float[Tensor, "problem scale drop"]
    levels: Float[Tensor, "problem level"]
    track: ModeRun

    @property
    def error(self) -> Float[Tensor, "problem scale drop"]:
        """Relative error, measured/predicted - 1."""
        return self.measured / self.predicted - 1


def without_recursion(
    rates: Float[Tensor, "*runs mode"], step_size: Tensor
) -> Float[Tensor, "*runs drop"]:
    """Times (in log(1/epsilon)) if each mode grew at its rate at the origin all along."""
    return 1 / staircase.finite_step_rate(rates, step_size)


def run(config: Config | None = None) -> Times:
    """Run every problem at every scale until after its last drop."""
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
    measured = crossing_steps(track.losses, middle, track.steps)
    return Times(
        scales=scales,
        measured=measured.reshape(predicted.shape),
        predicted=predicted,
        naive=naive,
        levels=theory.levels,
        track=track,
    )
