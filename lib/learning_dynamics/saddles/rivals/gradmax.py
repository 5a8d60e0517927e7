"""GradMax (Evci et al. 2022): new units start with zero incoming weights."""

import torch

from learning_dynamics.activations import Activation
from learning_dynamics.losses import Loss
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import check_positive
from learning_dynamics.saddles.escape import pair_of_linear_unit
from learning_dynamics.saddles.objective import Objective, Path
from learning_dynamics.saddles.rivals.growing import grow
from learning_dynamics.saddles.two_layer import State

__all__ = ["gradmax"]


def gradmax(
    problem: Problem,
    *,
    width: int,
    step_size: float,
    tolerance: float,
    size: float = 1.0,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    least_rate: float = 1e-6,
    max_steps: int = 20_000,
    stop_loss: float | None = None,
) -> Path:
    """New unit (0, size q), q the output side of the top pair: it maximises the next gradient.

    Same matrix as the escape direction; half of the unit's square lies along it, so that it
    escapes as well, later by log(sqrt 2)/rate for a small size. The linear part of the
    activation is used for the choice.
    """
    check_positive("size", size)
    objective = Objective(problem, activation=activation, loss=loss)
    m0 = problem.inputs.shape[-2]

    def choose(state: State) -> torch.Tensor | None:
        pair, rates = pair_of_linear_unit(objective, state)
        if float(rates[0]) <= least_rate:
            return None
        return torch.cat([torch.zeros_like(pair[:m0]), size * 2**0.5 * pair[m0:]])

    return grow(
        objective, choose, width=width, step_size=step_size, tolerance=tolerance,
        max_steps=max_steps, stop_loss=stop_loss,
    )  # fmt: skip
