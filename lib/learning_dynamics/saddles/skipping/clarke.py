"""Kinks of piecewise linear activations: which a unit rests on, and where it goes from the others.

At a unit i and sample j with a_i . x_j = 0 the slope of the activation may be any number
between its left and right slope. Where b_i . G_j (sigma'(0+) - sigma'(0-)) > 0 the loss has a
convex kink there: the flow can rest on it or slide along it, and its velocity is minus the smallest
element of Clarke's subdifferential. Where it is negative the kink is concave: both sides lead
down, and no slope in between makes the point stationary.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.optimize import lsq_linear
from torch import Tensor

from learning_dynamics.activations import Activation
from learning_dynamics.saddles.two_layer import Weights

__all__ = ["Kinks", "is_piecewise_linear", "near_kinks", "put_on_kinks", "resolve_kinks"]

ON_KINK = 1e-10  # |a . x_j| / |a| |x_j| below which a unit is on the kink (rounding: 1e-16)


def is_piecewise_linear(activation: Activation) -> bool:
    """Whether sigma is 1-homogeneous with a kink at zero (ReLU and its kin)."""
    one = torch.ones((), dtype=torch.float64)
    return activation.homogeneous and bool(
        activation.derivative(one) != activation.derivative(-one)
    )


def near_kinks(
    rows: Float[Tensor, "m1 m0"], inputs: Float[Tensor, "m0 n"], distance: float = ON_KINK
) -> Bool[Tensor, "m1 n"]:
    """Pairs (unit, sample) with |a_i . x_j| <= distance |a_i| |x_j|; x_j = 0 has no kink."""
    reach = distance * rows.norm(dim=1, keepdim=True) * inputs.norm(dim=0)
    return ((rows @ inputs).abs() <= reach) & (inputs != 0).any(0)


def put_on_kinks(
    weights: Weights, inputs: Float[Tensor, "m0 n"], kinks: Bool[Tensor, "m1 n"]
) -> Weights:
    """The nearest weights with a_i . x_j = 0 for every marked pair."""
    w1 = weights.w1.clone()
    for i in kinks.any(1).nonzero()[:, 0].tolist():
        w1[i] = w1[i] - normal_space(inputs[:, kinks[i]]) @ w1[i]
    return Weights(w1, weights.w2)


def normal_space(columns: Float[Tensor, "m0 kinks"]) -> Float[Tensor, "m0 m0"]:
    """The projector on the span of the samples on whose kinks a unit rests."""
    basis, values, _ = torch.linalg.svd(columns / columns.norm(dim=0), full_matrices=False)
    basis = basis[:, values > 1e-9 * values[0]]
    return basis @ basis.mT


@dataclass(frozen=True)
class Kinks:
    """slopes : (m1, n) of sigma, those of the smallest element of Clarke's subdifferential.
    held : (m1, n) convex kinks on which the unit stays under descent.
    concave : (m1, n) kinks from which both sides lead down."""

    slopes: Float[Tensor, "m1 n"]
    held: Bool[Tensor, "m1 n"]
    concave: Bool[Tensor, "m1 n"]


def resolve_kinks(
    units: Float[Tensor, "m1 coordinate"],
    inputs: Float[Tensor, "m0 n"],
    gradient: Float[Tensor, "m2 n"],
    act: Activation,
    kinks: Bool[Tensor, "m1 n"],
) -> Kinks:
    """Slopes at the marked kinks under descent with dL/df = `gradient`, unit by unit.

    Convex kinks: one bounded least-squares problem for each unit (exact, an active set). Concave
    ones are left towards the side to which the other samples push, at a tie to the positive one.
    """
    one = torch.ones((), dtype=inputs.dtype)
    left, right = (float(act.derivative(s * one)) for s in (-1, 1))
    m0 = len(inputs)
    slopes, held = act.derivative(units[:, :m0] @ inputs), torch.zeros_like(kinks)
    back = (units[:, m0:] @ gradient) * (right - left)
    size, ends = inputs.norm(dim=0), sorted((left, right))
    # below rounding of the largest there is no kink to speak of
    concave = kinks & (back * size < -1e-8 * (back.abs() * size).amax(1, keepdim=True))
    for i in kinks.any(1).nonzero()[:, 0].tolist() if left != right else []:
        own = units[i, m0:] @ gradient
        own = own / ((size * own.abs()).max() or 1.0)  # bvls knows no scale
        slopes[i, kinks[i]] = 0.5 * (left + right)
        free = (kinks[i] & ~concave[i]).nonzero()[:, 0]
        for _ in range(5):  # concave kinks: until each is left to the side of its slope
            push = -(inputs.mT @ (inputs @ (slopes[i] * own)))
            side = torch.where(push >= 0, right, left)
            left_to = torch.where(concave[i], side, slopes[i])
            if len(free):
                left_to[free] = 0.0
                columns, rest = inputs[:, free] * own[free], inputs @ (left_to * own)
                best = lsq_linear(columns.numpy(), -rest.numpy(), bounds=ends, method="bvls").x
                left_to[free] = torch.from_numpy(np.clip(best, ends[0], ends[1]))
            if bool((left_to == slopes[i]).all()):
                break
            slopes[i] = left_to
        still = (inputs[:, free].mT @ (inputs @ (slopes[i] * own))).abs() <= 1e-12 * size[free]
        inside = (slopes[i, free] > ends[0]) & (slopes[i, free] < ends[1])
        held[i, free] = inside | still
    return Kinks(slopes, held, concave)
