"""The steps of a small convolutional net: how their rank is read, and what it is."""

import pytest
import torch

from paper.saddles.nonlinear import real_net


def test_participation_rank_counts_equal_singular_values():
    for rank in (1, 2, 5):
        change = torch.diag(torch.tensor([3.0] * rank + [0.0] * (6 - rank)))
        assert float(real_net.participation_rank(change)) == pytest.approx(rank)
    g, (rows, columns) = torch.Generator().manual_seed(0), real_net.SHAPES["conv 2"]
    noise = torch.randn(200, rows, columns, generator=g)
    wanted = rows * columns / (rows + columns + 1)
    assert float(real_net.participation_rank(noise).mean()) == pytest.approx(wanted, rel=0.05)


def test_the_steps_of_the_readout_are_not_of_low_rank():
    result = real_net.run(real_net.Config().quick())
    first = result["rank"].isel(change=0, seed=0, scale=0)
    assert (first.sel(layer="conv 1") < first.sel(layer="readout")).all()
    assert max(real_net.real_net_steps.judge(result).measured) > real_net.LOW
    # Steps of rank one in every layer would have been seen to be so.
    alone = result.assign(rank=result["rank"].where(result["rank"].isnull(), 1.0))
    assert set(real_net.real_net_steps.judge(alone).measured) == {1.0}
