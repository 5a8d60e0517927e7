"""Linear attention: its loss against sequences drawn, its drops against each head by itself."""

import pytest
import torch

from paper.saddles import linear_attention as la


def test_the_closed_loss_is_that_of_drawn_sequences():
    config, g = la.Config(), torch.Generator().manual_seed(0)
    spectrum, a = la.moments(config)
    many, d = 40_000, config.inputs

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    w, x, query = draw(many, d), draw(many, config.context, d), draw(many, d)
    x, query = x * spectrum.sqrt(), query * spectrum.sqrt()
    beta = (x * (x @ w[:, :, None])).mean(1)
    u = torch.diag(spectrum / a) + 0.3 * draw(d, d)
    found = ((beta @ u * query).sum(-1) - (w * query).sum(-1)).square().mean() / 2
    wanted = spectrum.sum() / 2 - (spectrum**2 * u.diag()).sum()
    wanted = wanted + (a[:, None] * u**2 * spectrum).sum() / 2
    assert float(found) == pytest.approx(float(wanted), rel=0.03)


def test_drops_come_when_each_head_by_itself_says():
    found = la.run(la.Config().quick())
    assert abs(found.measured / found.predicted - 1).max() < 0.05
    assert (found.rank_of_u == [1, 2, 3]).all()
    assert abs(found["at"] - found.level[1:-1].values).max() < 1e-3 * found.level[0]
