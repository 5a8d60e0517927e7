"""One dial: exact places, exact symmetries, and what is not on it."""

import math

import pytest

from learning_dynamics.data.digits import small_digits
from learning_dynamics.scales.parametrizations import dynamic, scheme
from paper.together.one_axis.dial import position, same_run

WIDTHS = (49, 256, 16, 256, 16, 256, 10)


@pytest.mark.parametrize(("r", "value"), [("0", 0.0), ("1/4", 0.25), ("1/2", 0.5)])
def test_dp_stands_at_n_min_to_the_half_minus_r(r, value):
    place = position(dynamic(r)(WIDTHS))
    assert place.laziness == pytest.approx(16 ** (0.5 - value), rel=1e-12)
    assert place.time_power == pytest.approx(1, rel=1e-12)  # DP keeps the initial speed


def test_spectral_stands_at_a_power_of_the_ratio():
    place = position(scheme("spectral")((49, 256, 16, 256, 16, 256, 1)))
    assert place.laziness == pytest.approx((16 / 256) ** 1.5, rel=1e-12)


@pytest.mark.parametrize("bottlenecks", [1, 2, 3])
def test_dp_one_half_is_spectral_enlarged_by_the_fourth_root(bottlenecks):
    widths = (7, *[240, 15] * bottlenecks, 240, 1)
    change = same_run(dynamic("1/2")(widths), scheme("spectral")(widths))
    assert change.weights == pytest.approx((240 / 15) ** 0.25, rel=1e-12)
    assert change.step_size == pytest.approx((15 / 240) ** 0.5, rel=1e-12)


def test_small_digits_are_centred_and_scaled():
    train, test = small_digits(60, 20)
    assert train.inputs.shape == (49, 60) and test.targets.shape == (10, 20)
    assert float(train.inputs.mean(1).abs().max()) < 1e-5
    assert float(train.inputs.square().mean()) == pytest.approx(1, abs=1e-5)
    assert math.isclose(float(train.targets.sum()), 0, abs_tol=1e-4)
