"""The ratio of Theorem 1 with a fixed direction: it has a best moment, then the direction turns."""

from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from learning_dynamics.saddles.linear_nets.modes import stack_moments
from learning_dynamics.saddles.theory.alignment import escape, worst_angle
from learning_dynamics.saddles.theory.stages import first_record
from paper.fits import fit_slope
from paper.saddles.random_linear import follow_grid, moments_with_gaps, unit_starts

__all__ = ["Config", "run"]


@dataclass(frozen=True)
class Config:
    """problems : random problems; scales : epsilon, falling; relative_step : eta s_1;
    clear : least exponent of the law for which these scales are small enough to judge; resolved :
    least ratio that is fitted, some hundred units of rounding, because a ratio of single units is
    not followed below 1e-16."""

    problems: int = 24
    scales: tuple[float, ...] = tuple(10.0**-i for i in range(16, 31, 2))
    relative_step: float = 0.1
    clear: float = 0.3
    resolved: float = 1e-13
    covariance: str = "generic"

    def quick(self) -> "Config":
        return replace(self, problems=12)


def run(config: Config = Config()) -> xr.Dataset:
    """The printed ratio from the start to the first escape, and its powers of epsilon.

    angle (problem, scale, record) : max_i |(I - P1) w_i|/|P1 w_i| with P1 fixed along the escape
    direction at the origin, until the escape, which is record `last`; size : sigma_1(S).
    best, end (problem, scale) : the least angle, and the angle at the escape.
    law (problem) : p, the exponent of sigma_2(S)/sigma_1(S) at the escape (no direction needed).
    best_predicted : 2p/(2 + p), the exponent of `best`: when the leading mode has size rho, what
    lags behind is (epsilon/rho)^p and what has turned away is rho^2; the sum is least at
    rho = epsilon^(p/(2 + p)).
    best_power, end_power (problem) : fitted powers, of `end` at the four smallest scales, of
    `best` where it is resolved.
    clear (problem) : whether p is large enough to be judged at these scales.
    """
    batch = moments_with_gaps(config.problems, covariance=config.covariance)
    scales, grid = config.scales, (len(batch), len(config.scales))
    starts = unit_starts(len(batch), scales, (10, 10))
    options = {"rotate_every": None, "keep": ("modes", "units")}  # leave single units as they are
    track, theory = follow_grid(batch, starts, scales, config.relative_step, drop=1, **options)
    direction = escape(stack_moments(batch, grid[1]).yx).direction[:, None]
    angle = worst_angle(track.units, direction.expand(-1, len(track.steps), -1))
    size, runs, p = track.modes[..., 0], ("problem", "scale"), theory.exponents[:, 0]
    variables = {
        "angle": ((*runs, "record"), angle.reshape(*grid, -1)),
        "size": ((*runs, "record"), size.reshape(*grid, -1)),
        "last": (runs, first_record(size >= 0.1).reshape(grid)),
        "law": ("problem", p),
        "best_predicted": ("problem", 2 * p / (2 + p)),
        "clear": ("problem", p >= config.clear),
    }
    records = range(len(track.steps))
    coords = {"problem": range(len(batch)), "scale": list(scales), "record": records}
    result = xr.Dataset(variables, coords)
    result["angle"] = result.angle.where(result.record <= result.last)
    result["best"] = result.angle.min("record")
    result["end"] = result.angle.isel(record=result.last)
    resolved = [row[row >= config.resolved] for row in result.best]
    powers = [fit_slope(np.log(row.scale), np.log(row)).slope for row in resolved]
    small = result.end[:, -4:]
    result["best_power"] = xr.concat(powers, "problem")
    result["end_power"] = fit_slope(np.log(small.scale), np.log(small)).slope
    return result
