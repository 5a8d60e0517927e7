"""What the plain baselines share: a start of scale epsilon, then one update after the other.

`run` in a signature: the keyword arguments of `follow`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from learning_dynamics.activations import Activation
from learning_dynamics.losses import Loss
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import check_integer, check_positive
from learning_dynamics.saddles.skipping.objective import Objective, Path
from learning_dynamics.saddles.two_layer import State, Weights, initialise

__all__ = [
    "follow",
    "gradient_descent",
    "heavy_ball",
    "moved",
    "normalised_descent",
    "spectral_descent",
]

#: The weights after a step, from the state before it, its number, and what counts SVDs.
Update = Callable[[State, int, Objective], Weights]


def follow(
    problem: Problem,
    update: Update,
    *,
    width: int,
    generator: torch.Generator,
    init_scale: float = 1e-8,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    diagonal: bool = False,
    max_steps: int = 20_000,
    stop_loss: float | None = None,
) -> Path:
    """Gaussian weights of scale `init_scale`, then `update` until the loss is at most `stop_loss`
    or `max_steps` are done; every iterate is recorded.

    diagonal : u = sqrt 2 init_scale on the diagonal of W1, v = 0 (Pesme and Flammarion's start);
        ignores `generator` and `width`.
    Raises ValueError at a non-finite loss.
    """
    check_positive("init_scale", init_scale)
    objective = Objective(problem, activation=activation, loss=loss)
    x, m2 = problem.inputs, problem.targets.shape[-2]
    if diagonal:
        u = 2**0.5 * init_scale * torch.diag(torch.ones_like(x[:, 0]))
        weights = Weights(u, u.new_zeros(m2, len(x)))
    else:
        w = initialise((len(x), width, m2), init_scale, [generator], dtype=x.dtype)
        weights = Weights(*(part[0].to(x.device) for part in w))
    exists = weights.w1 != 0 if diagonal else torch.ones_like(weights.w1, dtype=torch.bool)
    for step in range(max_steps + 1):
        state = objective(weights)
        g = state.gradients
        state = state._replace(gradients=Weights(exists * g.w1, g.w2))
        objective.record(state)
        if stop_loss is not None and float(state.loss) <= stop_loss:
            return objective.path(weights, "loss")
        if step < max_steps:
            weights = update(state, step, objective)
    return objective.path(weights, "steps")


def moved(weights: Weights, along: Weights, size: float) -> Weights:
    """W_l - size along_l."""
    return Weights(weights.w1 - size * along.w1, weights.w2 - size * along.w2)


def gradient_descent(problem: Problem, *, step_size: float, **run: Any) -> Path:
    """W_l <- W_l - step_size dL/dW_l from Gaussian weights of scale `init_scale`."""
    check_positive("step_size", step_size)
    return follow(problem, lambda s, *_: moved(s.weights, s.gradients, step_size), **run)


def heavy_ball(problem: Problem, *, step_size: float, momentum: float = 0.9, **run: Any) -> Path:
    """V <- momentum V - step_size dL/dW, W <- W + V; 0 <= momentum < 1.

    A mode of rate s grows like exp(s step_size t/(1 - momentum)) while step_size s is small
    against (1 - momentum)^2.
    """
    check_positive("step_size", step_size)
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum = {momentum}: must be in [0, 1)")
    velocity: Weights | None = None

    def update(state: State, step: int, objective: Objective) -> Weights:
        nonlocal velocity
        last = velocity or Weights(*(torch.zeros_like(part) for part in state.weights))
        velocity = moved(Weights(*(momentum * v for v in last)), state.gradients, step_size)
        return moved(state.weights, velocity, -1.0)

    return follow(problem, update, **run)


def normalised_descent(
    problem: Problem, *, step_size: float, length: float = 1e-2, **run: Any
) -> Path:
    """Steps of fixed `length` along -gradient; of gradient descent's own length when longer.

    A plateau costs O(1/length) steps whatever epsilon is; saddles are blurred at that scale.
    """
    check_positive("step_size", step_size)
    check_positive("length", length)

    def update(state: State, step: int, objective: Objective) -> Weights:
        g = state.gradients
        norm = float((g.w1.square().sum() + g.w2.square().sum()).sqrt())
        return moved(state.weights, g, max(step_size, length / max(norm, 1e-300)))

    return follow(problem, update, **run)


def spectral_descent(
    problem: Problem, *, step_size: float, max_steps: int = 400, **run: Any
) -> Path:
    """W_l <- W_l - h_t U V' with dL/dW_l = U S V', h_t falling linearly to zero at `max_steps`.

    Without momentum and with exact polar factors (two SVDs a step). Singular values of both
    factors rise by h_t a step, all modes at once, so that epsilon and the order drop out.
    """
    check_positive("step_size", step_size)
    check_integer("max_steps", max_steps, least=1)

    def polar(matrix: Tensor, objective: Objective) -> Tensor:
        u, s, v = objective.svd(matrix)
        keep = s > s[0] * 1e-12  # directions that the gradient does not have
        return (u * keep) @ v

    def update(state: State, step: int, objective: Objective) -> Weights:
        along = Weights(*(polar(g, objective) for g in state.gradients))
        return moved(state.weights, along, step_size * (1 - step / max_steps))

    return follow(problem, update, max_steps=max_steps, **run)
