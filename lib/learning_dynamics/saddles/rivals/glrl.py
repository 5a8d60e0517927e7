"""Greedy low-rank learning (Li, Luo and Lyu 2021), for rectangular factors."""

import torch

from learning_dynamics.activations import Activation
from learning_dynamics.losses import Loss
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import check_positive
from learning_dynamics.saddles.escape import pair_of_linear_unit
from learning_dynamics.saddles.objective import Objective, Path
from learning_dynamics.saddles.rivals.growing import grow
from learning_dynamics.saddles.two_layer import State

__all__ = ["greedy_low_rank"]


def greedy_low_rank(
    problem: Problem,
    *,
    width: int,
    step_size: float,
    tolerance: float,
    scale: float = 1e-6,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    least_rate: float = 1e-6,
    max_steps: int = 20_000,
    stop_loss: float | None = None,
) -> Path:
    """From [U(inf), sqrt(scale) u] with u the top pair of the end-to-end gradient, to the limit.

    The limit is scale -> 0 of gradient flow; here a small scale and steps of step_size.
    tolerance in loss/weight ends a stage; least_rate ends the method.
    """
    check_positive("scale", scale)
    objective = Objective(problem, activation=activation, loss=loss)

    def choose(state: State) -> torch.Tensor | None:
        pair, rates = pair_of_linear_unit(objective, state)
        return None if float(rates[0]) <= least_rate else scale**0.5 * pair

    return grow(
        objective, choose, width=width, step_size=step_size, tolerance=tolerance,
        max_steps=max_steps, stop_loss=stop_loss,
    )  # fmt: skip
