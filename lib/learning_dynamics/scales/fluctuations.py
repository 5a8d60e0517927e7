"""How much a layer's contribution fluctuates from one random network to the next.

For one input and one output, C_l = |df/dW_l|^2 is the contribution of layer l per unit step and
unit residual; their sum is the diagonal of the tangent kernel. At finite width they are random.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.kernels.mlp_torch import deltas
from learning_dynamics.runtime import check_integer, check_positive, check_tensors, normal

__all__ = [
    "contributions",
    "inverse_width_sum",
    "last_layer_spread",
    "spread",
    "tangent_kernel_spread",
]


def _check_widths(hidden_widths: Sequence[int]) -> None:
    if len(hidden_widths) == 0:
        raise ValueError("hidden width: hidden_widths is empty: at least one is needed")
    for n in hidden_widths:
        check_integer("hidden width", n, least=1)


def contributions(
    hidden_widths: Sequence[int], draws: int, generator: torch.Generator
) -> Float[Tensor, "draws layers"]:
    """C_l at initialisation, l = 1..L, in units of their mean, for `draws` random ReLU networks.

    hidden_widths : (n_1, ..., n_{L-1}). Fan-in scaling in every layer (NTK = DP(0)): with equal
    sigma_l all layers have equal means; other members of the DP family only change the unit.
    The input enters through its norm alone, so n_0 = 1 without loss of generality, n_L = 1.
    """
    _check_widths(hidden_widths)
    check_integer("draws", draws, least=1)
    widths = (1, *hidden_widths, 1)
    size = sum(a * b for a, b in zip(widths, widths[1:], strict=False))
    parts, chunk = [], max(1, 4_000_000 // size)  # of so many random numbers at a time
    for first in range(0, draws, chunk):
        many = min(chunk, draws - first)
        h = torch.ones(many, 1, 1, device=generator.device)
        forward: list[Tensor] = []
        weights: list[Tensor] = []
        for fan_in, fan_out in zip(widths, widths[1:], strict=False):
            w = normal(many, fan_out, fan_in, generator=generator)
            gain = 1.0 if len(weights) == len(hidden_widths) else math.sqrt(2)
            w *= gain / math.sqrt(fan_in)
            forward.append(h)
            weights.append(w)
            h = torch.relu(w @ h)
        found = []
        delta, _ = deltas(weights, [h > 0 for h in forward[1:]], torch.ones_like(h))
        for layer, (d, below) in enumerate(zip(delta, forward, strict=True)):
            gain = 1.0 if layer == len(weights) - 1 else 2.0
            squares = d.square().sum((1, 2)) * below.square().sum((1, 2))
            found.append(gain * squares / widths[layer])
        parts.append(torch.stack(found, 1))
    return torch.cat(parts).double()


def inverse_width_sum(hidden_widths: Sequence[int]) -> float:
    """beta = sum over hidden layers of 1/n_l, the scale of all fluctuations (hanin2020)."""
    _check_widths(hidden_widths)
    return sum(1 / n for n in hidden_widths)


def spread(values: Float[Tensor, " draws"]) -> float:
    """log(E[C^2] / E[C]^2): 0 if C is certain, the log-variance if C is lognormal."""
    check_tensors(values=(values, "draws"))
    return float(torch.log(values.square().mean() / values.mean() ** 2))


def last_layer_spread(hidden_widths: Sequence[int]) -> float:
    """The exact spread of C_L = |h_{L-1}|^2 / n_{L-1}: sum over hidden layers of log(1 + 5/n_l).

    Each layer multiplies |h|^2/n by an independent mean of n_l squares of rectified Gaussians,
    doubled: mean 1, second moment 1 + 5/n_l.
    """
    _check_widths(hidden_widths)
    return sum(math.log(1 + 5 / n) for n in hidden_widths)


def tangent_kernel_spread(hidden_widths: Sequence[int], last: float = 1.0) -> float:
    """Spread of the sum of all contributions to first order in 1/n: sum_j (5 - 8 B (1-B))/n_j.

    C_l = |h_{l-1}|^2 |delta_l|^2 passes layer j forward if j < l and backward if j >= l. Two
    contributions that pass it the same way vary together by 5/n_j, two that pass it in
    opposite ways by 1/n_j; the share of such pairs is 2 B (1-B), B the share of layers 1..j.
    last : mean of the last layer's contribution over that of the others. 1 for gamma_l^2 C_l
    (then B = j/L), 2 for plain C_l under DP (the hidden gain is sqrt(2)).

    >>> round(tangent_kernel_spread((100, 100)), 6)
    0.064444
    """
    check_positive("last", last, zero=True)
    _check_widths(hidden_widths)
    whole = len(hidden_widths) + last
    return sum(
        (5 - 8 * (j / whole) * (1 - j / whole)) / n for j, n in enumerate(hidden_widths, start=1)
    )
