"""The evidence for Part II's exact statements can fail, and agrees with slower ways to the same."""

import numpy as np
import pytest
import torch

from learning_dynamics.runtime import generator
from learning_dynamics.scales.network import initial_weights
from learning_dynamics.scales.parametrizations import dynamic
from paper.scales.order_analysis import layer_balance, optimal_rate


def test_layer_balance_fails_with_biased_scales():
    """Negative control: predictions for another scheme are far outside the errors."""
    small = {"widths": (4, 32, 8, 32, 1), "draws": 1000}
    dp, spectral = layer_balance("dp(1/2)", **small), layer_balance("spectral", **small)
    for k in range(4):
        assert abs(dp.measured[k] - dp.predicted[k]) <= 4 * dp.error[k]
        assert abs(dp.measured[k] - spectral.predicted[k]) > 8 * dp.error[k]


def test_optimal_rate_by_search():
    """The polynomial's minimum is where a fine search over real steps finds it."""
    n, seed, inputs, samples = 64, 3, 24, 4
    best, closed = optimal_rate(n, seed)
    p = dynamic("1/2")((inputs, n, 64, n, 1), 1.0)
    g = generator("optimal rate data")
    x = torch.randn(inputs, samples, generator=g, dtype=torch.float64)
    y = torch.randn(1, samples, generator=g, dtype=torch.float64)
    draws = initial_weights(p, generator("optimal rate", n, seed), dtype=torch.float32)
    start = [v.double() for v in draws]

    def loss(weights):
        h = x
        for g_l, w in zip(p.multipliers, weights, strict=True):
            h = g_l * w @ h
        return 0.5 * (h - y).square().mean()

    leaves = [w.clone().requires_grad_() for w in start]
    gradients = torch.autograd.grad(loss(leaves), leaves)
    grid = np.linspace(0.2, 2.0, 1801) * best
    steps = ([w - eta * d for w, d in zip(start, gradients, strict=True)] for eta in grid)
    losses = [float(loss(weights)) for weights in steps]
    assert grid[int(np.argmin(losses))] == pytest.approx(best, rel=2e-3)
    assert 0.3 < best / closed < 3
