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


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (
            lambda: assert_rank(torch.diag(torch.tensor([2.0, 1.0, 1e-9])), 2),
            lambda: assert_rank(torch.diag(torch.tensor([2.0, 1.0, 0.5])), 2),
        ),
        (lambda: assert_rank(torch.zeros(3, 3), 0), lambda: assert_rank(torch.zeros(3, 3), 1)),
        (
            lambda: assert_aligned(
                torch.tensor([[1.0, 0.0], [-2.0, 0.001]]), torch.tensor([1.0, 0.0]), angle=0.01
            ),
            lambda: assert_aligned(
                torch.tensor([[1.0, 1.0]]), torch.tensor([1.0, 0.0]), angle=0.01
            ),
        ),
        (
            lambda: assert_conserved(torch.ones(2, 9), tolerance=0.0),
            lambda: assert_conserved(torch.tensor([1.0, 1.1]), tolerance=0.01),
        ),
        (lambda: assert_levels_fall([3.0, 2.0, 0.5]), lambda: assert_levels_fall([3.0, 3.0, 0.5])),
        (
            lambda: assert_plateau_at(STAIRCASE, 2.0, rtol=0.01),
            lambda: assert_plateau_at(STAIRCASE, 1.5, rtol=0.01),
        ),  # passed, but not rested on
        (
            lambda: assert_scales_like(
                [8, 16, 32, 64], [1.0, 0.5, 0.25, 0.125], -1, tolerance=0.01
            ),
            lambda: assert_scales_like(
                [8, 16, 32, 64], [1.0, 0.5, 0.25, 0.125], -0.5, tolerance=0.01
            ),
        ),
        (
            lambda: assert_scales_like([8, 16, 32, 64], [1.0, 1.01, 0.99, 1.0], 0, tolerance=0.02),
            lambda: assert_scales_like([8, 16], [1.0, 1.0], 0, tolerance=0.02),
        ),  # two sizes are no law
    ],
)
def test_accepts_and_refuses(good, bad):
    good()
    with pytest.raises(AssertionError):
        bad()
