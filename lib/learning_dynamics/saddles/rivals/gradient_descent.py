"""Gradient descent from a small start: what all others are measured against."""

import torch

from learning_dynamics.activations import Activation
from learning_dynamics.losses import Loss
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import check_positive
from learning_dynamics.saddles.objective import Objective, Path
from learning_dynamics.saddles.rivals.stepping import follow, start
from learning_dynamics.saddles.two_layer import State, Weights

__all__ = ["gradient_descent"]


def gradient_descent(
    problem: Problem,
    *,
    width: int,
    generator: torch.Generator,
    step_size: float,
    init_scale: float = 1e-8,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    diagonal: bool = False,
    max_steps: int = 20_000,
    stop_loss: float | None = None,
) -> Path:
    """W_l <- W_l - step_size dL/dW_l from Gaussian weights of scale `init_scale`."""
    check_positive("step_size", step_size)
    objective = Objective(problem, activation=activation, loss=loss)
    weights, mask = start(problem, width, init_scale, generator, diagonal=diagonal)

    def update(state: State, step: int) -> Weights:
        w, g = state.weights, state.gradients
        return Weights(w.w1 - step_size * g.w1, w.w2 - step_size * g.w2)

    return follow(
        weights, objective, update, max_steps=max_steps, stop_loss=stop_loss, mask=mask
    )
