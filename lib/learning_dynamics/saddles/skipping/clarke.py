"""Stationary points of nets with piecewise linear activations, in Clarke's sense.

At a unit i and sample j with a_i . x_j = 0 the slope of the activation may be any number
between its left and right slope; a point is stationary when some choice makes the gradient zero.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.optimize import lsq_linear
from torch import Tensor

from learning_dynamics.activations import Activation
from learning_dynamics.losses import Loss
from learning_dynamics.problems import Problem
from learning_dynamics.saddles.two_layer import Weights

__all__ = ["ClarkeTest", "clarke_test", "is_piecewise_linear", "near_kinks", "put_on_kinks"]


def is_piecewise_linear(activation: Activation) -> bool:
    """Whether sigma is 1-homogeneous with a kink at zero (ReLU and its kin)."""
    one = torch.ones((), dtype=torch.float64)
    return activation.homogeneous and bool(
        activation.derivative(one) != activation.derivative(-one)
    )


def near_kinks(
    weights: Weights, inputs: Float[Tensor, "m0 n"], distance: float | Float[Tensor, " m1"]
) -> Bool[Tensor, "m1 n"]:
    """Pairs (unit, sample) with |a_i . x_j| <= distance_i |x_j|."""
    reach = torch.as_tensor(distance, dtype=inputs.dtype).reshape(-1, 1)
    return (weights.w1 @ inputs).abs() <= reach * inputs.norm(dim=0)


def put_on_kinks(
    weights: Weights, inputs: Float[Tensor, "m0 n"], kinks: Bool[Tensor, "m1 n"]
) -> Weights:
    """The nearest weights with a_i . x_j = 0 for every marked pair."""
    w1 = weights.w1.clone()
    for i in kinks.any(1).nonzero()[:, 0].tolist():
        basis = inputs[:, kinks[i]]
        w1[i] = w1[i] - basis @ torch.linalg.lstsq(basis, w1[i][:, None]).solution[:, 0]
    return Weights(w1, weights.w2)


@dataclass(frozen=True)
class ClarkeTest:
    """norm : of the smallest element found of Clarke's subdifferential (an outer estimate:
    the kinks of one unit are treated as independent), in units of loss/weight.
    slopes : (m1, n) the slopes of sigma that give it.
    velocity : (m1, n) of a X under descent along it; its sign says into which side of a kink
    the loss falls (it is zero where the slope lies strictly between)."""

    norm: float
    slopes: Float[Tensor, "m1 n"]
    velocity: Float[Tensor, "m1 n"]


def clarke_test(
    weights: Weights,
    problem: Problem,
    kinks: Bool[Tensor, "m1 n"],
    activation: Activation,
    loss: Loss,
) -> ClarkeTest:
    """Smallest norm of the gradient over the free slopes at the marked kinks.

    One bounded least-squares problem per unit (the gradient is linear in the slopes).
    Uses outputs only; the caller counts the evaluation.
    """
    x = problem.inputs
    z = torch.where(kinks, torch.zeros_like(weights.w1 @ x), weights.w1 @ x)
    g = loss.gradient(weights.w2 @ activation(z), problem.targets)
    back = weights.w2.mT @ g
    one = torch.ones((), dtype=x.dtype)
    ends = sorted(float(activation.derivative(s * one)) for s in (-1, 1))
    slopes = activation.derivative(z)
    for i in kinks.any(1).nonzero()[:, 0].tolist():
        free = kinks[i]
        columns = x[:, free] * back[i, free]
        fixed = x[:, ~free] @ (slopes[i, ~free] * back[i, ~free])
        best = lsq_linear(columns.numpy(), -fixed.numpy(), bounds=(ends[0], ends[1]))
        slopes[i, free] = torch.from_numpy(np.clip(best.x, ends[0], ends[1])).to(x.dtype)
    d1 = (slopes * back) @ x.mT
    d2 = g @ activation(z).mT
    norm = float((d1.square().sum() + d2.square().sum()).sqrt())
    return ClarkeTest(norm, slopes, -d1 @ x)
