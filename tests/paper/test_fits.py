import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import linregress, t, ttest_1samp

from learning_dynamics.runtime import generator
from paper.fits import fit_slope, mean_interval


def test_slope_and_interval_are_those_of_scipy():
    g = generator("test-fitted-slopes")
    x = torch.linspace(0, 3, 7, dtype=torch.float64)
    y = 2 * x - 1 + 0.3 * torch.randn(3, 7, generator=g, dtype=torch.float64)
    found = fit_slope(x, y)
    for i in range(3):
        other = linregress(x.numpy(), y[i].numpy())
        assert float(found.slope[i]) == pytest.approx(other.slope)
        assert float(found.intercept[i]) == pytest.approx(other.intercept)
        assert float(found.half_width[i]) == pytest.approx(other.stderr * t.ppf(0.975, 5))


def test_labelled_values_are_fitted_along_the_dimension_of_x_and_none_is_left_out():
    x = xr.DataArray([1.0, 2.0, 4.0], dims="n", coords={"n": [1, 2, 4]})
    found = fit_slope(x, x * xr.DataArray([3.0, -1.0], dims="run"))
    np.testing.assert_allclose(found.slope, [3, -1])
    assert found.slope.dims == ("run",)
    assert fit_slope(torch.arange(4.0), torch.tensor([1.0, torch.nan, 3.0, 4.0])).slope.isnull()
    with pytest.raises(ValueError, match="exact"):
        fit_slope(x, x.assign_coords(n=[1, 2, 5]))
    with pytest.raises(ValueError, match="2 points"):
        fit_slope(torch.arange(2.0), torch.arange(2.0))


def test_interval_of_a_mean_is_that_of_the_t_test():
    values = torch.randn(9, generator=generator("test-mean"), dtype=torch.float64)
    mean, low, high = mean_interval(values)
    other = ttest_1samp(values.numpy(), 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((other.low, other.high))
    assert mean == pytest.approx(float(values.mean()))
