"""Gradient descent of a linear net under any loss, from any initial scale: how many steps?

`linear` goes through the second moments, so it knows the squared loss only. Here every step is
made, with the samples, but on graded rows of S (`modes.grade_rows`): a row's rounding is relative
to the row, and epsilon = 1e-100 is counted as exactly as 1e-8.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.losses import Loss, loss as find_loss
from learning_dynamics.contracts import checked
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import check_integer, check_positive
from learning_dynamics.saddles.modes import grade_rows
from learning_dynamics.saddles.two_layer import Weights

__all__ = ["steps_until"]


@checked
def steps_until(
    weights: Weights,
    problem: Problem,
    there: Callable[[Float[Tensor, ""], Float[Tensor, "m2 n"]], bool],
    *,
    step_size: float,
    max_steps: int,
    loss: str | Loss = "squared",
    rotate_every: int | None = 20,
) -> int:
    """Updates of gradient descent until `there(L, f(X))`, one run.

    weights      : W1 (m1, m0), W2 (m2, m1), entries down to about 1e-150.
    step_size    : eta. rotate_every : steps between rotations, None for plain floating point.
    Raises ValueError if max_steps do not suffice or the loss becomes non-finite.
    """
    check_positive("step_size", step_size)
    check_integer("max_steps", max_steps, least=1)
    criterion = find_loss(loss)
    x, targets = problem.inputs, problem.targets
    m0 = len(x)
    rows = weights.units
    for step in range(max_steps + 1):
        if rotate_every is not None and step % rotate_every == 0:
            rows = grade_rows(rows[None])[0]
        a, b = rows[:, :m0], rows[:, m0:]
        outputs = b.mT @ (a @ x)
        value = criterion.value(outputs, targets)
        if not bool(torch.isfinite(value)):
            raise ValueError(f"step_size = {step_size:g}: the run diverged by step {step}")
        if there(value, outputs):
            return step
        push = -criterion.gradient(outputs, targets) @ x.mT
        rows = rows + step_size * torch.cat([b @ push, a @ push.mT], dim=1)
    raise ValueError(f"max_steps = {max_steps}: too few")
