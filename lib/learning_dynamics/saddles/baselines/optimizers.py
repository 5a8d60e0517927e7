"""What the plain baselines share: a start of scale epsilon, then one update after the other."""

from collections.abc import Callable

import torch
from jaxtyping import Bool
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
    "normalised_descent",
    "spectral_descent",
    "start",
]

#: What an update does with a state and the number of the step.
Update = Callable[[State, int], Weights]


def start(
    problem: Problem,
    width: int,
    init_scale: float,
    generator: torch.Generator,
    *,
    diagonal: bool = False,
) -> tuple[Weights, Bool[Tensor, "m1 m0"] | None]:
    """Gaussian weights of scale `init_scale`, one run, and the mask of existing entries.

    diagonal : u = sqrt 2 init_scale on the diagonal of W1, v = 0 (Pesme and Flammarion's start);
        needs no generator and ignores `width`.
    """
    check_positive("init_scale", init_scale)
    m0, m2 = problem.inputs.shape[-2], problem.targets.shape[-2]
    if diagonal:
        u = 2**0.5 * init_scale * torch.diag(torch.ones_like(problem.inputs[:, 0]))
        return Weights(u, u.new_zeros(m2, m0)), u != 0
    w = initialise((m0, width, m2), init_scale, [generator], dtype=problem.inputs.dtype)
    return Weights(*(part[0].to(problem.inputs.device) for part in w)), None


def follow(
    weights: Weights,
    objective: Objective,
    update: Update,
    *,
    max_steps: int,
    stop_loss: float | None = None,
    mask: Bool[Tensor, "m1 m0"] | None = None,
) -> Path:
    """Apply `update` until the loss is at most `stop_loss` or `max_steps` are done.

    Every iterate is recorded. Raises ValueError at a non-finite loss.
    """
    status = "steps"
    for step in range(max_steps + 1):
        state = objective(weights)
        if mask is not None:
            g = state.gradients
            state = state._replace(gradients=Weights(mask * g.w1, g.w2))
        objective.record(state)
        if stop_loss is not None and float(state.loss) <= stop_loss:
            status = "loss"
            break
        if step < max_steps:
            weights = update(state, step)
    return objective.path(weights, status)


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

    return follow(weights, objective, update, max_steps=max_steps, stop_loss=stop_loss, mask=mask)


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

    return follow(weights, objective, update, max_steps=max_steps, stop_loss=stop_loss, mask=mask)


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

    return follow(weights, objective, update, max_steps=max_steps, stop_loss=stop_loss, mask=mask)


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
