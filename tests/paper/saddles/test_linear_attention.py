"""Linear attention: its loss and field against sequences drawn and automatic gradients."""

import pytest
import torch

from paper.saddles import linear_attention as la


def test_the_closed_loss_is_that_of_drawn_sequences_and_the_field_its_gradient():
    config, g = la.Config(), torch.Generator().manual_seed(0)
    spectrum, a = la.moments(config)
    many, d = 40_000, config.inputs

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    w, x, query = draw(many, d), draw(many, config.context, d), draw(many, d)
    x, query = x * spectrum.sqrt(), query * spectrum.sqrt()
    xi = (x * (x @ w[:, :, None])).mean(1)
    u = (torch.diag(spectrum / a) + 0.3 * draw(d, d)).requires_grad_()
    found = ((xi @ u * query).sum(-1) - (w * query).sum(-1)).square().mean() / 2
    loss = la.loss(u, spectrum, a)
    assert found.item() == pytest.approx(loss.item(), rel=0.03)
    torch.testing.assert_close(la.field(u, spectrum, a), -torch.autograd.grad(loss, u)[0])
