"""Gradient descent with a time reparametrisation: long steps where a deep net hardly moves.

Near the saddle at its origin a chain of K maps obeys a flow of degree K - 1: plain gradient descent
needs |V|^-(K-2) steps. Steps proportional to |V|^-(K-2) grow the maps by a fixed share each and
follow the same path; |V| is read off the size of the gradient.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.data.digits import small_digits
from learning_dynamics.kernels.mlp_torch import hidden
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import check_integer, check_positive
from learning_dynamics.scales.parametrizations import scheme
from learning_dynamics.scales.training import initialise

__all__ = ["digit_losses", "reparametrisation_power", "reparametrised_descent"]


def reparametrisation_power(modules: int) -> float:
    """q = (K - 2)/(2 (K - 1)), for which every step on the plateau grows the maps by one share."""
    check_integer("modules", modules, least=2)
    return (modules - 2) / (2 * (modules - 1))


def reparametrised_descent(
    weights: Sequence[Float[Tensor, "_ _"]],
    multipliers: Sequence[float],
    problem: Problem,
    *,
    step_size: float,
    steps: int,
    time_power: float = 0.0,
    stop: float = 0.0,
) -> Float[Tensor, " records"]:
    """Losses of every step of full-batch descent on the squared loss, over that of f = 0; ReLU.

    time_power : power q of the change of time: the step is step_size max(1, (step_size a)^-q), and
    a = sum_l |dL/dW_l|^2 / (2 L), the activity, is of order |V|^(2(K-1)) on the plateau of a chain
    of K maps V; 0 is plain. `reparametrisation_power` gives q. stop : at this share of the loss
    of f = 0. Stops early, above `stop`, if the loss explodes or every unit is switched off.
    """
    check_positive("step_size", step_size)
    w = [v.clone() for v in weights]
    zero = 0.5 * float(problem.targets.square().sum(0).mean())
    x, y = problem.inputs, problem.targets
    losses = []
    for _ in range(steps + 1):
        h = [a[0] for a in hidden([v[None] for v in w], multipliers, x[None])]
        error = h[-1] - y
        loss = 0.5 * float(error.square().sum(0).mean())
        losses.append(loss / zero)
        delta, gradients = error / x.shape[1], []
        for layer in reversed(range(len(w))):
            gradients.append(multipliers[layer] * delta @ h[layer].mT)
            if layer:
                delta = multipliers[layer] * (w[layer].mT @ delta) * (h[layer] > 0)
        activity = sum(float(g.square().sum()) for g in gradients) / (2 * loss)
        dead = activity < 1e-30  # every unit switched off by too large a step
        eta = step_size if dead else step_size * max(1.0, (step_size * activity) ** -time_power)
        if losses[-1] <= stop or not losses[-1] < 1e3 or dead:
            break
        for v, g in zip(w, reversed(gradients), strict=True):
            v.sub_(eta * g)
    return torch.tensor(losses)


def digit_losses(
    name: str, wide: int, seed: int, samples: int, dtype: torch.dtype, **how: Any
) -> Float[Tensor, " records"]:
    """`reparametrised_descent` of a net n, 16, n, 16, n under scheme `name`, on ten digits."""
    train, _ = small_digits(samples, 10, dtype=dtype)
    p = scheme(name)((len(train.inputs), wide, 16, wide, 16, wide, len(train.targets)))
    start = initialise(p.widths, p.weight_stds, [seed]).to(dtype).weights
    return reparametrised_descent([w[0] for w in start], p.multipliers, train, **how)
