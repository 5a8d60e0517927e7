import numpy as np
import pytest

from paper.saddles import anisotropy


def test_isotropic_inputs_do_not_turn():
    found = anisotropy.rotation(2, covariance="isotropic")
    assert found.measured.max() < 0.01 and found.predicted.max() < 1e-6


def test_two_inputs_bend_from_the_correlation_to_the_target():
    path = anisotropy.bend("generic")
    product, correlation = path.product.values, path.yx.values
    target = np.linalg.solve(path.xx.values, correlation)
    np.testing.assert_allclose(product[-1], target, atol=1e-6)
    early = product[(np.linalg.norm(product, axis=-1) > 1e-3).argmax()]

    def cosine(x, y):
        return x @ y / np.linalg.norm(x) / np.linalg.norm(y)

    assert cosine(early, correlation) == pytest.approx(1.0, abs=1e-3)
    assert cosine(early, target) < 0.8
    assert path.turn[0] == pytest.approx(np.degrees(np.arccos(cosine(correlation, target))))


def test_commuting_inputs_rest_at_a_saddle_that_is_no_optimum():
    found = anisotropy.order((0.0, 20.0))
    near = (abs(found.loss - found.level.sel(learned="mode 1")) < 0.01).sum("step")
    assert near[0] > 30  # rests at the mode with the larger correlation
    assert near[1] < 5


def test_a_small_turn_matters_once_the_scale_is_small_enough():
    """Threshold angle ~ epsilon^(p r/s_2) = epsilon^0.12: 0.1 degrees slide below 1e-23."""
    for scale, steps, slides in ((1e-10, 700, False), (1e-40, 2600, True)):
        found = anisotropy.order((0.1,), scale, steps)
        best = (abs(found.loss - found.level.sel(learned="mode 2")) < 0.02).sum()
        assert (best > 50) == slides


def test_rank_2_saddle_is_the_best_place_to_stop():
    found = anisotropy.errors_under_noise(problems=4, steps=300)
    assert (found.saddle.mean("problem").argmin("rank") == 2).all()
