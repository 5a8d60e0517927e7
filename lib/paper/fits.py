"""Least-squares slopes with 95 % confidence intervals."""

import torch
from jaxtyping import Float
from scipy.special import stdtrit
from torch import Tensor

from learning_dynamics.runtime import check_shape

__all__ = ["fit_slope"]


def fit_slope(
    x: Float[Tensor, " points"], y: Float[Tensor, "*fits points"]
) -> tuple[Float[Tensor, "*fits"], Float[Tensor, "*fits"], Float[Tensor, "*fits"]]:
    """Slope, half-width of its 95 % interval (Student's t), intercept, for y = intercept + slope x.

    At least 3 points. The interval supposes independent equal errors; for a curve that only
    tends to a line it tells how straight it is, not where the limit lies.
    """
    check_shape("y", y, (len(x),))
    if len(x) < 3:
        raise ValueError(f"x has {len(x)} points: an interval needs at least 3")
    dx = x - x.mean()
    spread = dx.square().sum()
    slope = (y * dx).sum(-1) / spread
    intercept = y.mean(-1) - slope * x.mean()
    residual = y - intercept[..., None] - slope[..., None] * x
    freedom = len(x) - 2
    error = (residual.square().sum(-1) / freedom / spread).sqrt()
    return slope, float(stdtrit(freedom, 0.975)) * error, intercept
