import pytest
import torch

from learning_dynamics.saddles.theory.staircase import rank_k_map
from learning_dynamics.saddles.theory.unit_matrix import from_units
from paper.saddles.plateau import any_loss, any_start
from paper.saddles.random_linear import moments_with_gaps


def test_the_law_does_not_depend_on_the_start():
    found = any_start.run(any_start.Config().quick())
    assert found.predicted.sel(start=any_start.NAMES).notnull().all()
    assert found.measured.notnull().equals(found.predicted.notnull())
    assert abs(found.measured - found.predicted).max() < 0.015
    # Leaving saddle 1 from epsilon is not the second escape of a run from the origin.
    near, far = found.predicted.sel(escape=2, start=["near the rank-1 saddle", "Gaussian"])
    assert abs(near - far).max() > 0.05


@pytest.mark.parametrize("balance", [1.0, 3.0])
def test_a_start_near_a_saddle_has_its_map(balance):
    (moments,) = moments_with_gaps(1)
    units = any_start.near_saddle(moments, 2, torch.zeros(5, 10, dtype=torch.float64), balance)
    torch.testing.assert_close(from_units(units, 6).product, rank_k_map(moments, 2))


def test_alignment_and_stages_for_every_loss():
    found = any_loss.run(any_loss.Config().quick())
    assert abs(found.measured - found.predicted).max() < 0.015
    assert (found.drops[..., 1:].count(["problem", "stage"]) >= 2).all()
    assert abs(found.drops / found.theory - 1).max() < 0.1
