"""The steps of a small convolutional net: how their rank is read, and what it is."""

import pytest
import torch

from paper.claims import read_claims, verdict
from paper.ledger import RECORDED
from paper.saddles.nonlinear import real_net

CLAIMS = read_claims(RECORDED.parents[1] / "claims.yml")


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
    found = real_net.real_net_steps.judge(result)
    claim = next(c for c in CLAIMS if c.id == "saddles/real-net-steps")
    assert verdict(claim, found) == "fails"
    first = result["rank"].isel(change=0, seed=0, scale=0)
    assert bool((first.sel(layer="conv 1") < first.sel(layer="readout")).all())
    # Steps of rank one in every layer would have been seen to be so.
    alone = real_net.real_net_steps.judge(result.assign(rank=result["rank"] * 0 + 1))
    assert verdict(claim, alone) == "holds"
