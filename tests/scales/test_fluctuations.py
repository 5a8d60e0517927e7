"""Fluctuations of the contributions: against autograd, the exact spread, the first-order law."""

import pytest
import torch

from learning_dynamics.runtime import generator
from learning_dynamics.scales import fluctuations as law


def test_contributions_are_squared_gradients():
    """The same draws through autograd: |df/dW_l|^2, with g_l^2 = gain^2/fan_in in one matrix."""
    hidden = (6, 3, 5)
    ours = law.contributions(hidden, 4, generator("autograd"))
    g, widths = generator("autograd"), (1, *hidden, 1)
    weights = [torch.randn(4, b, a, generator=g) for a, b in zip(widths, widths[1:], strict=False)]
    for run in range(4):
        own = [w[run].double().requires_grad_() for w in weights]
        h = torch.ones(1, 1, dtype=torch.float64)
        for layer, w in enumerate(own):
            last = layer == len(own) - 1
            h = (1.0 if last else 2.0) ** 0.5 / w.shape[1] ** 0.5 * w @ h
            h = h if last else torch.relu(h)
        grads = torch.autograd.grad(h.sum(), own)
        expected = torch.stack([x.square().sum() for x in grads])
        torch.testing.assert_close(ours[run], expected, rtol=1e-5, atol=1e-7)


def test_spread_of_the_sum_follows_the_first_order_law():
    """At widths 60 / 30: within 10 %; the rule 'all layers move together' is 40 % off."""
    hidden = (60, 30, 60, 30, 60)
    c = law.contributions(hidden, 8000, generator("sum")).sum(1)
    assert law.spread(c) == pytest.approx(law.tangent_kernel_spread(hidden), rel=0.12)
    assert law.last_layer_spread(hidden) > 1.25 * law.spread(c)  # negative control
    assert law.tangent_kernel_spread((10**9,)) < 1e-8
    assert law.inverse_width_sum((4, 2)) == 0.75


def test_spread_of_the_sum_weighs_the_last_layer():
    """Plain sum under DP: the last contribution counts twice, and its direction decides."""
    hidden = (400, 40, 400)
    c = law.contributions(hidden, 6000, generator("weighted"))
    c[:, -1] *= 20  # exaggerated, so that the weight shows
    assert law.spread(c.sum(1)) == pytest.approx(law.tangent_kernel_spread(hidden, 20.0), rel=0.15)
    assert law.tangent_kernel_spread(hidden) < 0.82 * law.spread(c.sum(1))
    assert law.tangent_kernel_spread((7, 7), 2.0) == pytest.approx(
        (5 - 8 * 3 / 16 + 5 - 8 * 4 / 16) / 7
    )
