"""What the plain rivals share: a start of scale epsilon, then one update after the other."""

from collections.abc import Callable

import torch
from jaxtyping import Bool
from torch import Tensor

from learning_dynamics.problems import Problem
from learning_dynamics.runtime import check_positive
from learning_dynamics.saddles.objective import Objective, Path
from learning_dynamics.saddles.two_layer import State, Weights, initialise

__all__ = ["follow", "start"]

#: What an update does with a state and the number of the step.
Update = Callable[[State, int], Weights]


def start(
    problem: Problem, width: int, init_scale: float, generator: torch.Generator, *,
    diagonal: bool = False,
) -> tuple[Weights, Bool[Tensor, "m1 m0"] | None]:
    """Gaussian weights of scale `init_scale`, one run, and the mask of existing entries.

    diagonal : u = sqrt 2 init_scale on the diagonal of W1, v = 0 (Pesme and Flammarion's start);
        needs no generator and ignores `width`.
    """  # fmt: skip
    check_positive("init_scale", init_scale)
    m0, m2 = problem.inputs.shape[-2], problem.targets.shape[-2]
    if diagonal:
        u = 2**0.5 * init_scale * torch.eye(m0, dtype=problem.inputs.dtype)
        return Weights(u, u.new_zeros(m2, m0)), u != 0
    w = initialise((m0, width, m2), init_scale, [generator], dtype=problem.inputs.dtype)
    return Weights(w.w1[0], w.w2[0]), None


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
