import pytest
import torch

from learning_dynamics.runtime import generator
from learning_dynamics.saddles.theory import growth_bound as descent
from learning_dynamics.saddles.theory.alignment import update_matrix


def random_step(seed):
    g = generator("test-descent", seed)
    s = torch.randn(50, 7, 9, generator=g, dtype=torch.float64) ** 3
    r = torch.randn(50, 4, 5, generator=g, dtype=torch.float64)
    return s, update_matrix(r, 0.2)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_no_step_beats_the_bound(k):
    s, update = random_step(k)
    p = descent.leading_projector(s, k)
    before, after = torch.linalg.svdvals(s), torch.linalg.svdvals(s @ update)
    bound = descent.growth_bound(update, p) * before[:, k]
    assert (after[:, k] <= bound * (1 + 1e-12)).all()
    # Without the projection the bound is true and useless; with it, it must be tighter.
    assert (descent.growth_bound(update, p) < torch.linalg.matrix_norm(update, ord=2)).all()


def test_a_projector_on_something_else_gives_no_bound():
    """Negative control: P on the directions that grow most, not on those of S."""
    update = torch.diag(torch.tensor([1.5, 1.0, 1.0], dtype=torch.float64))
    s = torch.tensor([[0.0, 0.0, 2.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    after = torch.linalg.svdvals(s @ update)[1]
    wrong = torch.diag(torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    assert after > descent.growth_bound(update, wrong) * 1.0
    assert after <= descent.growth_bound(update, descent.leading_projector(s)) * 1.0


def test_outside_of_the_leading_directions_are_the_other_singular_values():
    s, _ = random_step(4)
    whole = descent.outside_norm(s, descent.leading_projector(s, 2)).square().sum(-1)
    torch.testing.assert_close(whole, torch.linalg.svdvals(s)[:, 2:].square().sum(-1))
