"""One run over the prior, and every law of Part I judged by it."""

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import xarray as xr
from tqdm import tqdm

from paper.claims import Evidence, claim
from paper.records import provenance, read_record, write_record
from paper.saddles.over_the_prior.draws import CHANCE, Config
from paper.saddles.over_the_prior.first_plateau import window
from paper.saddles.over_the_prior.growth import growth
from paper.saddles.over_the_prior.losses import DROPS, other_loss
from paper.saddles.over_the_prior.staircase import RESTED, staircase

__all__ = ["compute", "errors", "main", "run", "summary"]


def compute(config: Config, bar: bool = False) -> xr.Dataset:
    """All draws of `config`, see `staircase` and `growth` (draw), `window` (window) and
    `other_loss` (loss_draw)."""

    def each(
        name: str, ends: tuple[int, int], measured: Callable[[int], xr.Dataset], dim: str
    ) -> xr.Dataset:
        bar_of = tqdm(range(*ends), desc=name, disable=not bar)
        return xr.concat([measured(i) for i in bar_of], dim).assign_coords({dim: range(*ends)})

    parts = [
        each("draws", config.draws, lambda i: xr.merge([staircase(i, config), growth(i)]), "draw"),
        each("windows", config.windows, window, "window"),
        each("losses", config.losses, other_loss, "loss_draw"),
    ]
    coords = {
        "start": ["Gaussian", "other"],
        "scale": list(config.scales),
        "drop": list(range(1, config.drops + 1)),
        "loss_drop": list(range(1, DROPS + 1)),
    }
    return xr.merge(parts).assign_coords(coords)


def run(config: Config = Config()) -> xr.Dataset:
    """`compute`, or the record of it."""
    return read_record("over-the-prior") if config.recorded else compute(config)


def _span(result: xr.Dataset) -> xr.DataArray:
    """log(1/epsilon) between the two smallest scales."""
    return -np.log(result.scale).diff("scale").isel(scale=-1, drop=True)


def errors(result: xr.Dataset) -> xr.Dataset:
    """exponent, time (draw, start, drop) : slopes in log(1/epsilon) between the two smallest
    scales, measured less predicted: of log sigma_{k+1}/sigma_k at escape k, and of the time of
    drop k in units of its mode's growth. nats (draw, scale, drop) : the time of each drop itself,
    from the Gaussian start, in the same units."""
    span = _span(result)
    power = -result.ratio.diff("scale").isel(scale=-1, drop=True) / span
    late = (result.steps - result.predicted) * result.growth
    time = late.diff("scale").isel(scale=-1, drop=True) / span
    return xr.Dataset(
        {"exponent": power - result.exponent, "time": time, "nats": late.sel(start="Gaussian")}
    )


def _slopes(
    result: xr.Dataset, name: str, predicted: xr.DataArray, start: str, drops: slice = slice(None)
) -> Evidence:
    """Measured slopes, each with its own tolerance, and how tight these are."""
    error = errors(result)[name].sel(start=start).isel({"drop": drops})
    known = error.notnull()
    allowed = result.slope.isel({"drop": drops}).where(known)
    predicted = predicted.isel({"drop": drops})
    predicted, tolerance = (
        x.broadcast_like(error).transpose(*error.dims).values[known.values]
        for x in (predicted, allowed)
    )
    details = {"tight": (tolerance < 0.02).mean()}
    measured = predicted + error.values[known.values]
    return Evidence(measured, predicted, np.minimum(tolerance, 0.5), result.draw, details)


def summary(found: Evidence) -> tuple[int, int, float, float, float]:
    """Of a judged law: how many numbers, how many missed, the median of their tolerances, the
    median and the largest error."""
    numbers = found.numbers()
    error = abs(numbers["measured"] - numbers["predicted"])
    allowed = np.broadcast_to(numbers["tolerance"], error.shape)
    middle, largest = float(np.median(error)), float(error.max())
    missed = int((error > allowed).sum())
    return error.size, missed, float(np.median(allowed)), middle, largest


@claim("saddles/prior-alignment", Config, run)
def alignment(result: xr.Dataset) -> Evidence:
    """Exponents at every escape, Gaussian start."""
    return _slopes(result, "exponent", result.exponent, "Gaussian")


@claim("saddles/any-initialisation", Config, run)
def any_start(result: xr.Dataset) -> Evidence:
    """The same from the other start of each problem."""
    return _slopes(result, "exponent", result.exponent, "other")


@claim("saddles/plateau-length", Config, run)
def length(result: xr.Dataset) -> Evidence:
    """Growth of the first plateau per log(1/epsilon), predicted 1."""
    return _slopes(result, "time", xr.ones_like(result.slope), "Gaussian", slice(1))


@claim("saddles/staircase-times", Config, run)
def times(result: xr.Dataset) -> Evidence:
    """The time of every drop per log(1/epsilon), in units of its mode's growth."""
    steps = (result.predicted * result.growth).diff("scale").isel(scale=-1, drop=True)
    found = _slopes(result, "time", steps / _span(result), "Gaussian")
    nats = abs(errors(result).nats)
    relative = np.square(nats / (result.predicted * result.growth))
    spread = np.log(np.sqrt(relative.mean(["draw", "drop"])))
    decay = np.polyfit(np.log(-np.log(result.scale)), spread, 1)[0]
    details = {"largest_share_of_nats": (nats / result.nats).max(), "decay": decay}
    return replace(found, details={**found.details, **details})


@claim("saddles/three-drops", Config, run)
def drops(result: xr.Dataset) -> Evidence:
    """Drops counted from each curve; at least those that theory says are apart."""
    apart = 1 + ((result.expected < RESTED) & (result["drop"] < result.drops)).sum("drop")
    least = xr.where(result.drops > 0, apart, 0)
    details = {"least": least, "apart": least.sum() / result.drops.sum()}
    return Evidence(result.found, result.drops, 0.0, result.draw, details)


@claim("saddles/rank-k-saddles", Config, run)
def levels(result: xr.Dataset) -> Evidence:
    """Distance from level k at the slowest step of plateaus that are expected to be rested on."""
    strong = ((result.expected < RESTED) & result.distance.notnull()).values
    seen = result.expected.where(result.distance.notnull()).notnull().sum()
    weak = result.distance.where(~strong).max()
    details = {"next": result.following.values[strong], "strong": strong.sum() / seen}
    if np.isfinite(weak):
        details["weakest"] = weak
    return Evidence(result.distance.values[strong], 0.0, 0.01, result.draw, details)


@claim("saddles/plateau-window", Config, run)
def first_plateau(result: xr.Dataset) -> Evidence:
    """Power of the best ratio with a fixed direction, and of the ratio at the escape."""
    known = result.best.notnull().values
    details = {
        "at_escape": abs(result.end).values[known],
        "at_escape_missed": (abs(result.end) > result.end_allowed).sum(),
    }
    best, predicted = result.best.values[known], result.best_predicted.values[known]
    allowed = np.minimum(result.best_allowed.values[known], 0.5)
    return Evidence(best, predicted, allowed, result.window[known], details)


@claim("saddles/prior-descent", Config, run)
def descent(result: xr.Dataset) -> Evidence:
    """Steps at which sigma_{k+1}(S) grew by more than the bound, k = 1, 2, 3; slack by k."""
    slack = result.bounded / result.grown - 1
    known = result.known / result.grown - 1
    details = {
        "compared": result.compared.sum("draw"),
        "slack": [slack.median(), slack.max()],
        "known": [known.median(), known.max()],
    }
    return Evidence(result.broken.sum("draw"), 0.0, 0.0, result.draw, details)


@claim("saddles/any-loss", Config, run)
def any_loss(result: xr.Dataset) -> Evidence:
    """Powers at the first escape; every later drop."""
    known = result.power.notnull().values
    raised, late = result.raised.notnull(), abs(result.late) / result.loss_drop
    more = raised & (result.raised != 1)
    details = {
        "drops": raised.sum(),
        "by_one": (result.raised == 1).sum() / raised.sum(),
        "unforeseen": (more & ~((result.raised > 1) & (result.lead < CHANCE))).sum(),
        "timed": late.notnull().sum(),
        "late": (late > CHANCE).sum(),
    }
    power, predicted = result.power.values[known], result.power_predicted.values[known]
    allowed = np.minimum(result.power_allowed.values[known], 0.5)
    details |= {"exponents": power.size, "missed": (abs(power - predicted) > allowed).sum()}
    return Evidence(power, predicted, allowed, result.loss_draw, details)


def main() -> None:
    """Compute the record."""
    attributes = {"command": "python -m paper.saddles.over_the_prior.laws", **provenance()}
    result = compute(Config(), bar=sys.stderr.isatty())
    write_record("over-the-prior", result.assign_attrs(attributes))


if __name__ == "__main__":
    main()
