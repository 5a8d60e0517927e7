"""Polar factors: their definition, and the public optimizer's step."""

import pytest
import torch

from learning_dynamics.kernels.polar import inverse_root, newton_schulz, polar_factor
from learning_dynamics.runtime import generator
from learning_dynamics.scales.step_factors import FACTORS


def gradient(rows, columns, values):
    """(rows, columns) with these singular values."""
    stream = generator("polar", rows, columns)
    sides = [torch.randn(n, len(values), generator=stream).double() for n in (rows, columns)]
    u, v = (torch.linalg.qr(side)[0] for side in sides)
    return (u * torch.tensor(values)) @ v.mT, u @ v.mT


@pytest.mark.parametrize("shape", [(40, 6), (6, 40), (7, 7)])
@pytest.mark.parametrize("values", [(3.0, 1.0, 0.5), (1.0, 0.1, 0.01)])
def test_the_factor_sets_all_singular_values_to_one(shape, values):
    g, expected = gradient(*shape, values)
    torch.testing.assert_close(polar_factor(g), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(polar_factor(g.float()), expected.float(), rtol=0, atol=1e-3)
    kept, below = gradient(*shape, (1.0, 0.5, 1e-5))[0], gradient(*shape, (1.0, 0.5, 0.0))[0]
    gap = (polar_factor(kept) - polar_factor(below)).abs().max()
    assert float(gap) < 1e-9  # what lies below the cutoff does not count


def test_nothing_comes_of_nothing_and_what_is_no_number_is_refused(as_users_run):
    assert float(polar_factor(torch.zeros(4, 3)).abs().max()) == 0
    assert float(newton_schulz(torch.zeros(4, 3)).abs().max()) == 0
    with pytest.raises(ValueError, match="gram"):
        inverse_root(torch.full((2, 2), torch.nan))
    with pytest.raises(ValueError, match="steps = 0"):
        newton_schulz(torch.ones(2, 2), 0)


@pytest.mark.parametrize("name", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("shape", [(48, 6), (6, 48)])
def test_a_step_of_torch_s_muon_is_ours(name, shape):
    """torch iterates in bfloat16, whose numbers are 2^-8 apart; rank 6, as it amplifies zeros."""
    g, _ = gradient(*shape, (3.0, 2.5, 2.0, 1.5, 1.0, 0.8))
    weight = torch.nn.Parameter(torch.zeros(shape))
    weight.grad = g.float()
    optimizer = torch.optim.Muon(
        [weight], lr=1.0, weight_decay=0.0, momentum=0.0, nesterov=False, adjust_lr_fn=name
    )
    optimizer.step()
    ours = -FACTORS[name](*shape) * newton_schulz(g)
    gap = torch.linalg.matrix_norm(weight.detach() - ours, 2) / torch.linalg.matrix_norm(ours, 2)
    assert float(gap) < 0.03
