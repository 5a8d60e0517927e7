"""Which wrong schemes does the exponent check reject? Every scheme sold as every other.

A scheme is measured once; its slopes are then held against the predictions of all. The record is
written by `python -m paper.scales.coordinate_check.power`.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import xarray as xr

from learning_dynamics.scales.orders import QUANTITIES
from paper.claims import Evidence, claim
from paper.records import provenance, read_record, write_record
from paper.scales.coordinate_check.exponents import PATTERNS, check

__all__ = ["Config", "check_power", "exponent_table", "gaps", "measure", "rejected", "run"]

#: What a verdict allows beyond the interval, and the interval beyond which there is none.
TOLERANCE, UNCLEAR = 0.05, 0.25
#: Neighbouring widths too close for their order to show: outside the range of the claims.
CLOSE = "close funnel"


@dataclass(frozen=True)
class Config:
    """Patterns of `PATTERNS`, schemes, draws per size; sizes: None, those of the pattern."""

    patterns: tuple[str, ...] = tuple(PATTERNS)
    schemes: tuple[str, ...] = (
        "standard",
        "ntk",
        "dp(1/4)",
        "dp(1/2)",
        "mup-wide",
        "mup-fan-in",
        "mup-package",
        "spectral",
    )
    runs: int = 24
    sizes: tuple[tuple[int, ...], ...] | None = None
    record: str | None = "exponents"

    def quick(self) -> "Config":
        sizes = ((512, 2048, 8192), (128, 384, 1024))
        patterns = ("root bottlenecks", "equal widths")
        return replace(self, patterns=patterns, runs=16, sizes=sizes, record=None)


def run(config: Config = Config()) -> xr.Dataset:
    """slope, its 95 % half-width interval, and predicted (pattern, scheme, quantity, layer), NaN
    where there is no such layer or quantity."""
    return read_record(config.record) if config.record else measure(config)


def measure(config: Config) -> xr.Dataset:
    """The same, computed anew: `quick()` in seconds, the whole in minutes."""
    depth = max(len(PATTERNS[p].family.exponents) for p in config.patterns) - 1
    axes = (config.patterns, config.schemes, tuple(QUANTITIES))
    table = np.full((3, *map(len, axes), depth), np.nan)
    for i, pattern in enumerate(config.patterns):
        sizes = config.sizes[i] if config.sizes else None
        for line in check(pattern, config.schemes, sizes=sizes, runs=config.runs).lines:
            at = (i, axes[1].index(line.scheme), axes[2].index(line.quantity), line.layer - 1)
            table[:, *at] = line.slope, line.interval, float(line.predicted)
    dims = ("pattern", "scheme", "quantity", "layer")
    names = ("slope", "interval", "predicted")
    coords = dict(zip(dims, (*map(list, axes), range(1, depth + 1)), strict=True))
    variables = {name: (dims, part) for name, part in zip(names, table, strict=True)}
    return xr.Dataset(variables, coords, {"runs": config.runs})


def _claimed(result: xr.Dataset) -> xr.DataArray:
    return result.predicted.rename(scheme="claimed")


def gaps(result: xr.Dataset) -> xr.DataArray:
    """Largest distance between the predicted exponents of two schemes (pattern, scheme, claimed):
    what a check without noise could see."""
    return abs(result.predicted - _claimed(result)).max(["quantity", "layer"])


def rejected(result: xr.Dataset) -> xr.DataArray:
    """How many lines differ when `scheme` is sold as `claimed` (pattern, scheme, claimed)."""
    off = abs(result.slope - _claimed(result)) - result.interval
    differs = (off > TOLERANCE) & (result.interval <= UNCLEAR)
    return differs.sum(["quantity", "layer"])


@claim("scales/check-power", Config, run)
def check_power(result: xr.Dataset) -> Evidence:
    """Share of pairs told apart that must be, and sound schemes rejected.

    A pair must be told apart on a pattern where a predicted exponent differs by more than twice the
    tolerance of the verdict: a slope within the tolerance of its own prediction then lies outside
    of the other's. details: how many pairs must be, how many have other exponents but need not be,
    how many have the same exponents; lines that reject DP(1/4) sold as DP(1/2), by pattern.
    """
    inside = result.sel(pattern=[p for p in result.pattern.values if p != CLOSE])
    gap, lines = gaps(inside), rejected(inside)
    other = gap.scheme != gap.claimed
    must = (gap > 2 * TOLERANCE + 1e-9) & other
    return Evidence(
        measured=[float((lines > 0).where(must).mean()), float((lines > 0).where(~other).sum())],
        predicted=[1.0, 0.0],
        tolerance=[0.0, 0.0],
        seeds=range(int(result.attrs["runs"])),
        details={
            "must": float(must.sum()),
            "blind": float((other & ~must & (gap > 0)).sum()),
            "same": float((other & (gap == 0)).sum()),
            "dial": lines.sel(scheme="dp(1/4)", claimed="dp(1/2)"),
        },
    )


@claim("scales/exponent-table", Config, run)
def exponent_table(result: xr.Dataset) -> Evidence:
    """The worst excess of a slope over its interval, for each pattern and quantity.

    details: how far slopes of the total change are off in the close funnel, intervals not deducted.
    """
    inside = result.sel(pattern=[p for p in result.pattern.values if p != CLOSE])
    off = abs(result.slope - result.predicted)
    worst = (off - result.interval).sel(pattern=inside.pattern).max(["scheme", "layer"])
    close = off.sel(quantity="change_norm", pattern=[p for p in off.pattern.values if p == CLOSE])
    details = {
        "entries": float(inside.slope.notnull().sum()),
        "widest_interval": float(inside.interval.max()),
    }
    if close.pattern.size:
        details["close_widths_gap"] = float(close.max())
    return Evidence(
        measured=worst.clip(min=0),
        predicted=xr.zeros_like(worst),
        tolerance=xr.full_like(worst, TOLERANCE),
        seeds=range(int(result.attrs["runs"])),
        details=details,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    attributes = {"config": repr(Config()), **provenance()}
    result = measure(Config())
    write_record(str(Config().record), result.assign_attrs(result.attrs | attributes))
