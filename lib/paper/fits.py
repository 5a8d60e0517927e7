"""Least-squares slopes and paired means, each with its Student interval."""

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy import stats

__all__ = ["fit_slope", "mean_interval"]


def fit_slope(x: xr.DataArray | ArrayLike, y: xr.DataArray | ArrayLike) -> xr.Dataset:
    """`slope`, its 95 % `half_width` (Student's t) and `intercept` of y = intercept + slope x.

    x : one dimension, which y has too; all other dimensions of y are separate fits. Plain arrays
        are fitted along their last axis. At least 3 points.
    The interval supposes independent equal errors; for a curve that only tends to a line it tells
    how straight it is, not where the limit lies.
    """
    if not (isinstance(x, xr.DataArray) and isinstance(y, xr.DataArray)):
        y = np.asarray(y)
        others = [f"fit_{i}" for i in range(y.ndim - 1)]
        x = xr.DataArray(np.asarray(x), dims="point")
        y = xr.DataArray(y, dims=[*others, "point"])
    dim, points = str(x.dims[0]), x.size
    if points < 3:
        raise ValueError(f"x has {points} points: an interval needs at least 3")
    with xr.set_options(arithmetic_join="exact"):
        dx = x - x.mean(dim, skipna=False)
        spread = xr.dot(dx, dx)
        slope = xr.dot(y, dx, dim=dim) / spread
        intercept = y.mean(dim, skipna=False) - slope * x.mean(dim, skipna=False)
        residual = y - intercept - slope * x
        error = np.sqrt(xr.dot(residual, residual, dim=dim) / (points - 2) / spread)
    half_width = stats.t.ppf(0.975, points - 2) * error
    return xr.Dataset({"slope": slope, "half_width": half_width, "intercept": intercept})


def mean_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float, float]:
    """Mean of independent values and the ends of its Student interval: (mean, low, high)."""
    values = np.asarray(values)
    mean, half = float(values.mean()), float(stats.sem(values))
    half *= float(stats.t.ppf(0.5 + level / 2, len(values) - 1))
    return mean, mean - half, mean + half
