"""Gradient descent with heavy-ball momentum (Polyak): shorter plateaus, inertia at saddles."""

import torch

from learning_dynamics.activations import Activation
from learning_dynamics.losses import Loss
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import check_positive
from learning_dynamics.saddles.objective import Objective, Path
from learning_dynamics.saddles.rivals.stepping import follow, start
from learning_dynamics.saddles.two_layer import State, Weights

__all__ = ["heavy_ball"]


def heavy_ball(
    problem: Problem,
    *,
    width: int,
    generator: torch.Generator,
    step_size: float,
    momentum: float = 0.9,
    init_scale: float = 1e-8,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    diagonal: bool = False,
    max_steps: int = 20_000,
    stop_loss: float | None = None,
) -> Path:
    """V <- momentum V - step_size dL/dW, W <- W + V; 0 <= momentum < 1.

    A mode of rate s grows like exp(s step_size t/(1 - momentum)) while step_size s is small
    against (1 - momentum)^2.
    """
    check_positive("step_size", step_size)
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum = {momentum}: must be in [0, 1)")
    objective = Objective(problem, activation=activation, loss=loss)
    weights, mask = start(problem, width, init_scale, generator, diagonal=diagonal)
    velocity = Weights(torch.zeros_like(weights.w1), torch.zeros_like(weights.w2))

    def update(state: State, step: int) -> Weights:
        nonlocal velocity
        w, g = state.weights, state.gradients
        velocity = Weights(
            momentum * velocity.w1 - step_size * g.w1, momentum * velocity.w2 - step_size * g.w2
        )
        return Weights(w.w1 + velocity.w1, w.w2 + velocity.w2)

    return follow(
        weights, objective, update, max_steps=max_steps, stop_loss=stop_loss, mask=mask
    )
