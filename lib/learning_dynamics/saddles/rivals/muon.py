"""A Muon-style spectral step: every singular value of a layer's gradient counts as one."""

import torch

from learning_dynamics.activations import Activation
from learning_dynamics.losses import Loss
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import check_integer, check_positive
from learning_dynamics.saddles.objective import Objective, Path
from learning_dynamics.saddles.rivals.stepping import follow, start
from learning_dynamics.saddles.two_layer import State, Weights

__all__ = ["spectral_descent"]


def spectral_descent(
    problem: Problem,
    *,
    width: int,
    generator: torch.Generator,
    step_size: float,
    init_scale: float = 1e-8,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    max_steps: int = 400,
    stop_loss: float | None = None,
) -> Path:
    """W_l <- W_l - h_t U V' with dL/dW_l = U S V', h_t falling linearly to zero at `max_steps`.

    Without momentum and with exact polar factors (two SVDs a step). Singular values of both
    factors rise by h_t a step, all modes at once, so that epsilon and the order drop out.
    """
    check_positive("step_size", step_size)
    check_integer("max_steps", max_steps, least=1)
    objective = Objective(problem, activation=activation, loss=loss)
    weights, _ = start(problem, width, init_scale, generator)

    def polar(matrix: torch.Tensor) -> torch.Tensor:
        u, s, v = objective.svd(matrix)
        keep = s > s[0] * 1e-12  # directions that the gradient does not have
        return (u * keep) @ v

    def update(state: State, step: int) -> Weights:
        h = step_size * (1 - step / max_steps)
        w, g = state.weights, state.gradients
        return Weights(w.w1 - h * polar(g.w1), w.w2 - h * polar(g.w2))

    return follow(weights, objective, update, max_steps=max_steps, stop_loss=stop_loss)
