import pytest
import torch

from paper.saddles.plateau import any_loss, any_start
from paper.saddles.random_linear import problems_with_gaps
from learning_dynamics.saddles.theory.staircase import rank_k_map
from learning_dynamics.saddles.theory.unit_matrix import from_units


def test_the_law_does_not_depend_on_the_start():
    found = any_start.run(any_start.Config(problems=1, scales=(1e-12, 1e-14, 1e-16)))
    for name in found.measured:
        assert found.worst(name) < 0.015, name
    # Leaving saddle 1 from epsilon is not the second escape of a run from the origin.
    near = found.predicted["near the rank-1 saddle"][0, 0]
    assert (near - found.predicted["Gaussian"][0, 1]).abs() > 0.01


@pytest.mark.parametrize("ratio", [1.0, 3.0])
def test_a_start_near_a_saddle_has_its_map(ratio):
    moments = problems_with_gaps(1)[0].moments()
    units = any_start.near_saddle(moments, 2, torch.zeros(5, 10, dtype=torch.float64), ratio)
    torch.testing.assert_close(from_units(units, 6).product, rank_k_map(moments, 2))


@pytest.mark.parametrize("name", any_loss.CASES)
def test_alignment_and_stages_for_every_loss(name):
    found = any_loss.run(name, any_loss.Config(problems=1, stage_steps=800))
    assert (found.measured - found.predicted).abs().max() < 0.015
    drops, theory = found.drops[0], found.theory[0]
    assert len(drops) >= 2
    assert (drops / theory - 1).abs().max() < 0.1
