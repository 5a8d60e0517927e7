import pytest
import torch
from scipy.stats import linregress, t

from paper.fits import fit_slope
from learning_dynamics.runtime import generator


def test_slope_and_interval_are_those_of_scipy():
    g = generator("test-fitted-slopes")
    x = torch.linspace(0, 3, 7, dtype=torch.float64)
    y = 2 * x - 1 + 0.3 * torch.randn(3, 7, generator=g, dtype=torch.float64)
    slope, half, intercept = fit_slope(x, y)
    for i in range(3):
        other = linregress(x.numpy(), y[i].numpy())
        assert float(slope[i]) == pytest.approx(other.slope)
        assert float(intercept[i]) == pytest.approx(other.intercept)
        assert float(half[i]) == pytest.approx(other.stderr * t.ppf(0.975, 5))


@pytest.mark.usefixtures("as_users_run")
def test_two_points_have_no_interval():
    with pytest.raises(ValueError, match="2 points"):
        fit_slope(torch.arange(2.0), torch.arange(2.0))
