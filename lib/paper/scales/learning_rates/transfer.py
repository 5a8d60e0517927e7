"""Does the best learning rate transfer over widths? Sweep of step size x width x scheme."""

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import pandas as pd
import torch
import xarray as xr

from learning_dynamics.data.images import Images, load
from learning_dynamics.runtime import generator
from paper.claims import Evidence, Numbers
from paper.records import read_record
from paper.scales.simulations.settings import SCHEMES, bottleneck_widths, grid, training_run
from paper.training_runs import train_all

__all__ = [
    "BETWEEN",
    "LARGE",
    "QUICK",
    "Transfer",
    "best_step_size",
    "learning_rate_sweep",
    "shift_per_doubling",
    "shifts",
    "swept_widths",
    "transfer_claim",
]

#: Octaves log2(step size) searched, scheme by scheme.
OCTAVES: Mapping[str, tuple[int, int]] = {
    "standard": (-12, -6),
    "mup-fan-in": (-6, -2),
    "mup-package": (-6, -2),
    "spectral": (-3, 1),
    "ntk": (0, 4),
    "dp(1/4)": (-1, 3),
    "dp(1/8)": (0, 4),
    "dp(3/8)": (-2, 2),
    "dp(1/2)": (-2, 2),
}


@dataclass(frozen=True)
class Transfer:
    """Which runs the sweep holds; the defaults are those of the committed record."""

    schemes: tuple[str, ...] = SCHEMES
    widths: tuple[int, ...] = (1024, 2048, 4096)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    steps: int = 150
    batch_size: int = 32
    prefactor: float = 8.0
    spacing: float = 0.5  # octaves between step sizes
    ranges: tuple[tuple[str, int, int], ...] = ()  # scheme, first and last octave, if not OCTAVES
    images: Images = Images(pool=4)
    dtype: str = "float32"


def _octaves(scheme: str, config: Transfer) -> np.ndarray:
    """log2 of the step sizes tried for a scheme."""
    own = {name: (low, high) for name, low, high in config.ranges}
    low, high = own.get(scheme) or OCTAVES[scheme]
    return np.arange(low, high + config.spacing / 2, config.spacing)


def learning_rate_sweep(
    config: Transfer,
    *,
    store: Path | str | None = None,
    executor: Executor | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Train and test loss after the last step: dimensions scheme, width, octave, seed.

    octave = log2(step size); NaN where a scheme was not tried; +inf where a run diverged.
    store : folder of finished runs; None computes all runs here and keeps none.
    """
    train, _ = load(config.images)
    inputs, outputs = train.inputs.shape[0], train.targets.shape[0]
    runs, places = [], []
    for n in config.widths:
        widths = bottleneck_widths(n, inputs, outputs, prefactor=config.prefactor)
        for scheme in config.schemes:
            tried = _octaves(scheme, config)
            base = training_run(
                scheme,
                widths,
                step_size=1.0,
                seed=0,
                steps=config.steps,
                images=config.images,
                batch_size=config.batch_size,
                dtype=config.dtype,
                records=sorted({0, *(config.steps // k for k in (20, 6, 2, 1))}),
            )
            runs += grid(base, 2.0**tried, config.seeds)
            places += [(scheme, n, float(o), s) for o in tried for s in config.seeds]
    results = train_all(runs, store=store, executor=executor, progress=progress)
    names = ("train_loss", "test_loss", "test_accuracy")
    last = {name: [float(result[name][-1]) for result in results] for name in names}
    index = pd.MultiIndex.from_tuples(places, names=("scheme", "width", "octave", "seed"))
    table = pd.DataFrame(last, index).to_xarray().reindex(scheme=list(config.schemes))
    attributes = {"steps": config.steps, "batch_size": config.batch_size, "runs": len(runs)}
    return table.assign_attrs(attributes, images=str(config.images))


def best_step_size(octaves: np.ndarray, losses: np.ndarray) -> float:
    """log2 of the best step size: vertex of the parabola through the best point and neighbours.

    losses : (octaves,), the seeds' mean, +inf where a run diverged; the parabola is that of log
    loss. At an edge of the grid, or beside a diverged neighbour, the best point itself.
    """
    tried = np.isfinite(octaves) & ~np.isnan(losses)
    x, y = octaves[tried], np.log(losses[tried])
    k = int(np.argmin(y))
    if 0 < k < len(x) - 1 and np.all(np.isfinite(y[k - 1 : k + 2])):
        left, middle, right = y[k - 1 : k + 2]
        bend = left - 2 * middle + right
        if bend > 0:
            return float(x[k] + 0.5 * (x[k + 1] - x[k]) * (left - right) / bend)
    return float(x[k])


def swept_widths(sweep_result: xr.Dataset, scheme: str) -> list[int]:
    """Widths at which at least three step sizes were computed for all seeds."""
    known = sweep_result.train_loss.sel(scheme=scheme).notnull().all("seed").sum("octave") >= 3
    return [int(w) for w in sweep_result.width.values[known.values]]


class Shift(TypedDict):
    """What `shift_per_doubling` finds."""

    best: np.ndarray
    shift: float
    low: float
    high: float
    edge: int


def shift_per_doubling(sweep_result: xr.Dataset, scheme: str, *, resamples: int = 300) -> Shift:
    """Slope of log2(best step size) in log2(width), with a bootstrap interval over seeds.

    Only the widths of `swept_widths` count; ValueError if there are not two. Returns `best`
    (widths,), `shift` (octaves per doubling), `low` and `high` (95 %), `edge` (number
    of widths whose best point is at an end of the grid). Seeds are resampled with replacement,
    jointly for all step sizes of a width (they share their noise).
    """
    chosen = sweep_result.sel(scheme=scheme, width=swept_widths(sweep_result, scheme))
    if chosen.sizes["width"] < 2:
        raise ValueError(
            f"scheme = {scheme!r}: {chosen.sizes['width']} widths were swept, two needed"
        )
    octaves = chosen.octave.values
    values = chosen.train_loss.transpose("width", "octave", "seed").values
    stream = generator("lr-transfer bootstrap", scheme)
    seeds = values.shape[-1]
    picks = torch.randint(seeds, (resamples + 1, len(values), seeds), generator=stream).numpy()
    picks[-1] = range(seeds)  # all as they are
    best = np.array(
        [
            [best_step_size(octaves, v[:, p].mean(-1)) for v, p in zip(values, pick, strict=True)]
            for pick in picks
        ]
    )
    *slopes, shift = np.polyfit(np.log2(chosen.width.values), best.T, 1)[0].tolist()
    low, high = np.quantile(slopes, [0.025, 0.975])
    tried = [octaves[~np.isnan(v.mean(-1))] for v in values]
    edge = sum(b in (t[0], t[-1]) for b, t in zip(best[-1], tried, strict=True))
    return Shift(best=best[-1], shift=shift, low=float(low), high=float(high), edge=edge)


def shifts(sweep_result: xr.Dataset) -> tuple[dict[str, Shift], dict[str, Numbers]]:
    """`shift_per_doubling` of each scheme, and what a claim says of all: `low`, `high` and
    `at_the_edge`, the number of optima at an end of the grid."""
    found = {str(s): shift_per_doubling(sweep_result, str(s)) for s in sweep_result.scheme.values}
    return found, {
        "low": [f["low"] for f in found.values()],
        "high": [f["high"] for f in found.values()],
        "at_the_edge": sum(f["edge"] for f in found.values()),
    }


#: One doubling more, for three schemes and whole octaves.
LARGE = Transfer(
    schemes=("standard", "spectral", "dp(1/2)"),
    widths=(4096, 8192),
    spacing=1.0,
    ranges=(("standard", -12, -8), ("spectral", -3, 0), ("dp(1/2)", -3, 1)),
)

#: Two more values of r between those of the record.
BETWEEN = Transfer(schemes=("dp(1/8)", "dp(3/8)"))

#: A small sweep on 8 x 8 digits, for the chapter and the tests.
QUICK = Transfer(
    schemes=("standard", "mup-fan-in", "spectral", "ntk", "dp(1/2)"),
    widths=(64, 128, 256),
    seeds=(0, 1, 2),
    steps=50,
    spacing=1.0,
    images=Images(source="sklearn", classes=(3, 8), pool=1),
    ranges=(
        ("standard", -8, -1),
        ("mup-fan-in", -5, 0),
        ("spectral", -3, 1),
        ("ntk", -1, 4),
        ("dp(1/2)", -3, 1),
    ),
    dtype="float64",  # large steps amplify rounding: the chapter's numbers repeat everywhere
)


def transfer_claim(*, quick: bool = False) -> Evidence:
    """Claim scales/lr-transfer: octaves that the best step size moves per doubling of n.

    measured: the shift of each scheme swept, in the order of the sweep; details: their 95 %
    intervals as low and high, the number of optima at an end of the grid, and by name the shift
    and interval of the standard scheme, of muP (fan-in) and of DP(1/2).
    """
    result = learning_rate_sweep(QUICK) if quick else read_record("simulations-transfer")
    found, details = shifts(result)
    for name, scheme in (("standard", "standard"), ("fan_in", "mup-fan-in"), ("dp", "dp(1/2)")):
        details |= {
            name: found[scheme]["shift"],
            f"{name}_low": found[scheme]["low"],
            f"{name}_high": found[scheme]["high"],
        }
    return Evidence(
        measured=[f["shift"] for f in found.values()],
        predicted=[0.0] * len(found),
        tolerance=[0.25] * len(found),
        seeds=[int(s) for s in result.seed],
        details=details,
    )
