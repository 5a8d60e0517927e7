import pytest
import torch

from paper.saddles import anisotropy
from paper.saddles.random_linear import problems_with_gaps


def test_isotropic_inputs_do_not_turn():
    found = anisotropy.rotation(2, covariance="isotropic")
    assert found.measured.max() < 0.01
    moments = problems_with_gaps(1, covariance="isotropic")[0].moments()
    assert anisotropy.predicted_rotation(moments).max() < 1e-6


def test_two_inputs_bend_from_the_correlation_to_the_target():
    path = anisotropy.bend("generic")
    target = (path.moments.yx @ torch.linalg.inv(path.moments.xx))[0]
    torch.testing.assert_close(path.product[-1], target, atol=1e-6, rtol=0)
    grown = int((path.product.norm(dim=-1) > 1e-3).long().argmax())
    early = path.product[grown] / path.product[grown].norm()
    correlation = path.moments.yx[0] / path.moments.yx[0].norm()
    assert float(early @ correlation) == pytest.approx(1.0, abs=1e-3)
    assert float(early @ target / target.norm()) < 0.8


def test_commuting_inputs_rest_at_a_saddle_that_is_no_optimum():
    found = anisotropy.order((0.0, 20.0))
    _, strong, best, _ = found.levels
    near = ((found.track.losses[0] - strong).abs() < 0.01).sum()
    assert near > 30  # rests at the mode with the larger correlation
    assert ((found.track.losses[1] - strong).abs() < 0.01).sum() < 5


def test_a_small_turn_matters_once_the_scale_is_small_enough():
    """Threshold angle ~ epsilon^(p r/s_2) = epsilon^0.12: 0.1 degrees slide below 1e-23."""
    for scale, steps, slides in ((1e-10, 700, False), (1e-40, 2600, True)):
        found = anisotropy.order((0.1,), scale, steps)
        best = ((found.track.losses[0] - found.levels[2]).abs() < 0.02).sum()
        assert (best > 50) == slides


def test_rank_2_saddle_is_the_best_place_to_stop():
    found = anisotropy.errors_under_noise(problems=4, steps=300)
    for name, levels in found.saddles.items():
        mean = levels.mean(0)
        assert int(mean.argmin()) == 2, name
        assert (found.large[name] > levels[:, 2]).double().mean() > 0.5
