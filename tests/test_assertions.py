"""The paper's words as assertions: each accepts what it names and refuses what it does not."""

import pytest
import torch

from assertions import (
    assert_aligned,
    assert_conserved,
    assert_levels_fall,
    assert_plateau_at,
    assert_rank,
    assert_scales_like,
)

STAIRCASE = torch.cat([torch.linspace(4, 2, 20), torch.full((50,), 2.0), torch.linspace(2, 1, 20)])


AXIS, SIZES = torch.tensor([1.0, 0.0]), [8, 16, 32, 64]
HALVED = [1.0, 0.5, 0.25, 0.125]


@pytest.mark.parametrize(
    ("claim", "good", "bad"),
    [
        (lambda x: assert_rank(torch.diag(torch.tensor([2.0, 1.0, x])), 2), 1e-9, 0.5),
        (lambda k: assert_rank(torch.zeros(3, 3), k), 0, 1),
        (lambda x: assert_aligned(torch.tensor([[1.0, 0], [-2, x]]), AXIS, angle=0.01), 0.001, 2),
        (lambda x: assert_conserved(torch.tensor([1.0, x]), tolerance=0.01), 1.0, 1.1),
        (lambda x: assert_levels_fall([3.0, x, 0.5]), 2.0, 3.0),
        (lambda x: assert_plateau_at(STAIRCASE, x, rtol=0.01), 2.0, 1.5),  # passed, not rested on
        (lambda x: assert_scales_like(SIZES, HALVED, x, tolerance=0.01), -1, -0.5),
        (lambda n: assert_scales_like(SIZES[:n], [1.0] * n, 0, tolerance=0.02), 4, 2),  # no law
    ],
)
def test_accepts_and_refuses(claim, good, bad):
    claim(good)
    with pytest.raises(AssertionError):
        claim(bad)
