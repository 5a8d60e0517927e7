"""The two-layer net f(X) = W2 sigma(W1 X), whichever kernel steps it: weights, outputs, gradient.

The leading dimension of every tensor is the run.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.activations import Activation
from learning_dynamics.activations import activation as find_activation
from learning_dynamics.losses import Loss, check_labels
from learning_dynamics.losses import loss as find_loss
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import (
    as_positive,
    check_generators,
    check_instance,
    check_integer,
    check_shapes,
    check_tensors,
    normal,
)

__all__ = [
    "State",
    "Weights",
    "forward",
    "gradient",
    "initialise",
    "linear_force",
    "pull_back",
    "state_of",
    "unit_force",
]


class Weights(NamedTuple):
    """W1 (*runs, m1, m0) and W2 (*runs, m2, m1).

    >>> import torch
    >>> Weights(torch.ones(3, 2), torch.ones(1, 3)).product
    tensor([[3., 3.]])
    """

    w1: Float[Tensor, "*runs m1 m0"]
    w2: Float[Tensor, "*runs m2 m1"]

    @property
    def units(self) -> Float[Tensor, "*runs m1 coordinate"]:
        """S = [W1, W2'], whose row i is unit i: row i of W1, column i of W2."""
        return torch.cat([self.w1, self.w2.mT], dim=-1)

    @property
    def product(self) -> Float[Tensor, "*runs m2 m0"]:
        """W2 W1, the end-to-end map of a linear net."""
        return self.w2 @ self.w1


class State(NamedTuple):
    """What an observable may look at; all of one step, before that step's update."""

    weights: Weights
    outputs: Float[Tensor, "runs m2 n"]
    gradients: Weights
    loss: Float[Tensor, " runs"]


def initialise(
    widths: tuple[int, int, int],
    init_scale: float | Float[Tensor, " runs"],
    generators: Sequence[torch.Generator],
    *,
    dtype: torch.dtype = torch.float64,
) -> Weights:
    """i.i.d. Gaussian weights of standard deviation epsilon = `init_scale`.

    widths     : (m0, m1, m2).
    init_scale : > 0, one for all runs or one per run.
    generators : one per run (see `runtime.generator`); their device is the weights' device.
    Equal generators give equal directions, so that runs can differ in scale alone.

    >>> from learning_dynamics import generator
    >>> start = initialise((6, 10, 4), 1e-3, [generator(seed) for seed in range(2)])
    >>> start.w1.shape, start.w2.shape
    (torch.Size([2, 10, 6]), torch.Size([2, 4, 10]))
    """
    if len(widths) != 3:
        raise ValueError(f"widths = {tuple(widths)}: must be (m0, m1, m2)")
    m0, m1, m2 = widths
    for name, value in zip(("m0", "m1", "m2"), widths, strict=True):
        check_integer(name, value, least=1)
    scale = starting_scale(init_scale, generators, dtype)
    units = torch.stack([normal(m1, m0 + m2, generator=g, dtype=dtype) for g in generators])
    units = units * scale.to(units.device)
    return Weights(units[..., :m0].contiguous(), units[..., m0:].mT.contiguous())


def starting_scale(
    init_scale: float | Tensor, generators: Sequence[torch.Generator], dtype: torch.dtype
) -> Tensor:
    """`init_scale`, (runs or 1, 1, 1). Raises ValueError unless it is one, or one per generator."""
    check_generators(generators)
    return as_positive("init_scale", init_scale, len(generators), dtype).reshape(-1, 1, 1)


def forward(
    weights: Weights, inputs: Float[Tensor, "... m0 n"], activation: str | Activation = "linear"
) -> Float[Tensor, "... m2 n"]:
    """f(X) = W2 sigma(W1 X).

    >>> import torch
    >>> forward(Weights(torch.ones(3, 2), torch.ones(1, 3)), torch.eye(2), "relu")
    tensor([[3., 3.]])
    """
    check_tensors(weights=(weights, Weights), inputs=(inputs, "... m0 n"))
    return weights.w2 @ find_activation(activation)(weights.w1 @ inputs)


def gradient(
    weights: Weights,
    problem: Problem,
    *,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
) -> State:
    """The gradient of L, with what was computed on the way.

    With Z = W1 X and G = dL/df (m2, n):
        dL/dW2 = G sigma(Z)',    dL/dW1 = (sigma'(Z) * W2' G) X'.

    >>> from learning_dynamics import generator, linear_teacher
    >>> problem = linear_teacher(generator=generator(0))
    >>> start = initialise((6, 10, 4), 0.1, [generator(1)])
    >>> gradient(start, problem, activation="tanh").gradients.w1.shape
    torch.Size([1, 10, 6])
    """
    act, criterion = find_activation(activation), find_loss(loss)
    check_instance("weights", weights, Weights)
    check_instance("problem", problem, Problem)
    check_shapes(w1=(weights.w1, "..."), w2=(weights.w2, "..."), inputs=(problem.inputs, "..."))
    check_labels(criterion, problem.targets)
    return state_of(weights, problem.inputs, problem.targets, act, criterion)


def state_of(
    weights: Weights, inputs: Tensor, targets: Tensor, act: Activation, criterion: Loss
) -> State:
    """`gradient` on bare tensors."""
    z = weights.w1 @ inputs
    h = act(z)
    outputs = weights.w2 @ h
    g = criterion.gradient(outputs, targets)
    gradients = pull_back(weights.w2, inputs, h, act.derivative(z), g)
    return State(weights, outputs, gradients, criterion.value(outputs, targets))


def pull_back(w2: Tensor, inputs: Tensor, h: Tensor, slopes: Tensor, g: Tensor) -> Weights:
    """dL/dW1 = (slopes * W2' G) X' and dL/dW2 = G H', for any G = dL/df (*runs, m2, n).

    h, slopes : (*runs, m1, n), sigma(Z) and sigma'(Z), or what stands for them on kinks.
    """
    return Weights((slopes * (w2.mT @ g)) @ inputs.mT, g @ h.mT)


def unit_force(
    units: Float[Tensor, "m1 coordinate"],
    inputs: Tensor,
    residual: Tensor,
    act: Activation,
    slopes: Float[Tensor, "m1 n"] | None = None,
) -> Float[Tensor, "m1 coordinate"]:
    """-dL/dw_i of every unit w_i = (row of W1, column of W2), given `residual` -G (m2, n).

    slopes : sigma'(Z), where the caller's differ from the activation's (on kinks).
    """
    w1, w2 = units[:, : len(inputs)], units[:, len(inputs) :]
    z = w1 @ inputs
    slopes = act.derivative(z) if slopes is None else slopes
    return pull_back(w2.mT, inputs, act(z), slopes, residual).units


def linear_force(
    units: Float[Tensor, "*runs m1 coordinate"], correlation: Float[Tensor, "*runs m2 m0"]
) -> Float[Tensor, "*runs m1 coordinate"]:
    """-dL/dS of a linear net, given its correlation R = -G X': rows (R' b_i, R a_i).

    units : S, whose row i is (a_i, b_i) = (row i of W1, column i of W2).
    """
    m0 = correlation.shape[-1]
    a, b = units[..., :m0], units[..., m0:]
    return torch.cat([b @ correlation, a @ correlation.mT], dim=-1)
