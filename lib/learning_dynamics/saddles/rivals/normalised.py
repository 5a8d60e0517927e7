"""Normalised gradient descent: a change of time that runs through plateaus at constant speed."""

import torch

from learning_dynamics.activations import Activation
from learning_dynamics.losses import Loss
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import check_positive
from learning_dynamics.saddles.objective import Objective, Path
from learning_dynamics.saddles.rivals.stepping import follow, start
from learning_dynamics.saddles.two_layer import State, Weights

__all__ = ["normalised_descent"]


def normalised_descent(
    problem: Problem,
    *,
    width: int,
    generator: torch.Generator,
    step_size: float,
    length: float = 1e-2,
    init_scale: float = 1e-8,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    diagonal: bool = False,
    max_steps: int = 20_000,
    stop_loss: float | None = None,
) -> Path:
    """Steps of fixed `length` along -gradient; of gradient descent's own length when longer.

    A plateau costs O(1/length) steps whatever epsilon is; saddles are blurred at that scale.
    """
    check_positive("step_size", step_size)
    check_positive("length", length)
    objective = Objective(problem, activation=activation, loss=loss)
    weights, mask = start(problem, width, init_scale, generator, diagonal=diagonal)

    def update(state: State, step: int) -> Weights:
        w, g = state.weights, state.gradients
        norm = float((g.w1.square().sum() + g.w2.square().sum()).sqrt())
        eta = max(step_size, length / max(norm, 1e-300))
        return Weights(w.w1 - eta * g.w1, w.w2 - eta * g.w2)

    return follow(
        weights, objective, update, max_steps=max_steps, stop_loss=stop_loss, mask=mask
    )
