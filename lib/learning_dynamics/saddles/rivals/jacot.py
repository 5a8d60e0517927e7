"""The greedy algorithm A(epsilon, T, eta) of Jacot et al. (2022), two layers."""

import torch

from learning_dynamics.activations import Activation
from learning_dynamics.losses import Loss
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import check_integer, check_positive
from learning_dynamics.saddles.escape import pair_of_linear_unit
from learning_dynamics.saddles.objective import Objective, Path, no_units
from learning_dynamics.saddles.two_layer import Weights

__all__ = ["greedy_steps"]


def greedy_steps(
    problem: Problem,
    *,
    width: int,
    step_size: float,
    scale: float = 1e-2,
    steps: int = 200,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    least_rate: float = 1e-6,
    max_steps: int = 20_000,
    stop_loss: float | None = None,
) -> Path:
    """Add epsilon = `scale` times the top pair of the gradient, T = `steps` steps, repeat.

    Nothing tests whether a saddle is reached: T alone decides.
    """
    check_positive("scale", scale)
    check_integer("steps", steps, least=1)
    objective = Objective(problem, activation=activation, loss=loss)
    weights = no_units(problem)
    state = objective(weights)
    objective.record(state, saddle=True)
    status = "width"
    while weights.w1.shape[0] < width:
        pair, rates = pair_of_linear_unit(objective, state)
        if float(rates[0]) <= least_rate:
            status = "no unit"
            break
        unit = scale * pair
        m0 = problem.inputs.shape[-2]
        weights = Weights(
            torch.cat([weights.w1, unit[None, :m0]]),
            torch.cat([weights.w2, unit[m0:, None]], dim=1),
        )
        for _ in range(steps):
            state = objective(weights)
            objective.record(state)
            g = state.gradients
            weights = Weights(weights.w1 - step_size * g.w1, weights.w2 - step_size * g.w2)
        state = objective(weights)
        objective.record(state, saddle=True)
        if stop_loss is not None and float(state.loss) <= stop_loss:
            status = "loss"
            break
        if objective.gradients >= max_steps:
            status = "steps"
            break
    return objective.path(weights, status)
