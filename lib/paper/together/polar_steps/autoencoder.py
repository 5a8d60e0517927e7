"""An autoencoder with a bottleneck of 16: which optimizer keeps its rate as the net is widened?

J. Simon's test of success {cite}`simon2024`: hyperparameters that transfer when an autoencoder is
scaled in width. Widths 64, n, 16, n, 64, ReLU, on 8 x 8 digits; each optimizer at its best rate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import xarray as xr

from learning_dynamics.data.digits import digits
from learning_dynamics.problems import Problem
from learning_dynamics.scales.parametrizations import scheme
from learning_dynamics.scales.step_factors import sign_step_sizes
from learning_dynamics.scales.training import initialise
from paper.claims import Evidence, claim
from paper.fits import fit_slope
from paper.records import read_record
from paper.sweep import Experiment
from paper.together.polar_steps.descent import Rule, adam, momentum, muon
from paper.together.polar_steps.tuned import tune

__all__ = ["AUTOENCODERS", "METHODS", "Cell", "Config", "cells", "join_cells", "run", "transfers"]


@dataclass(frozen=True)
class Method:
    """scheme of the start; rule; step sizes of the layers by widths, None: one for all; octaves:
    log2 of the rates searched, half an octave apart."""

    scheme: str
    rule: Callable[[], Rule]
    ratios: Callable[[Sequence[int]], Sequence[float]] | None
    octaves: tuple[float, float]


#: By name; momentum 0.9 in all of them.
METHODS = {
    "Muon, Spectral": Method("spectral", muon, None, (-6, -2)),
    "Adam, DP(1/2)": Method("dp(1/2)", adam, sign_step_sizes, (-1, 3)),
    "SGD, DP(1/2)": Method("dp(1/2)", momentum, None, (-5, 1)),
    "SGD, Spectral": Method("spectral", momentum, None, (-8, -3)),
}


@dataclass(frozen=True)
class Config:
    """wide : n; seeds; steps of full-batch descent; samples : images."""

    wide: tuple[int, ...] = (64, 128, 256, 512, 1024)
    seeds: int = 5
    steps: int = 60
    samples: int = 200

    def quick(self) -> "Config":
        return replace(self, wide=(64, 128, 256), seeds=1, samples=100)


@dataclass(frozen=True)
class Cell:
    """One method at one width, all seeds and rates."""

    method: str
    wide: int
    seeds: int
    steps: int
    samples: int


def _problem(samples: int) -> Problem:
    x = digits(source="sklearn", centre=True).train.inputs
    x = x[:, torch.linspace(0, x.shape[1] - 1, samples).long()]
    x = (x / x.square().mean().sqrt()).float().contiguous()
    return Problem(x, x)


def run_cell(cell: Cell) -> xr.Dataset:
    """The variables of `tune`."""
    method, problem = METHODS[cell.method], _problem(cell.samples)
    p = scheme(method.scheme)((64, cell.wide, 16, cell.wide, 64))
    low, high = method.octaves
    rates = torch.arange(low, high + 0.25, 0.5, dtype=torch.float64)
    tuned = tune(
        initialise(p.widths, p.weight_stds, list(range(cell.seeds))).weights,
        p.multipliers,
        problem,
        method.rule,
        rates,
        steps=cell.steps,
        ratios=None if method.ratios is None else method.ratios(p.widths),
    )
    return tuned.assign_coords(log_rate=("rate", rates))


AUTOENCODERS = Experiment("polar-autoencoder", run_cell)


def cells(config: Config = Config()) -> list[Cell]:
    """One cell for each method and width."""
    rest = (config.seeds, config.steps, config.samples)
    return [Cell(name, n, *rest) for name in METHODS for n in config.wide]


def join_cells(config: Config, results: list[xr.Dataset]) -> xr.Dataset:
    """The results of `cells`, by method and width n.

    end (optimizer, wide, seed, lattice) at log_rate (optimizer, lattice), NaN beyond its rates;
    the other variables of `tune`; best_power (optimizer, seed) : exponent in n of the best rate;
    lost (optimizer, seed) : end of the loss at the largest n with the rate of the grid that is best
    at the smallest n, over its least at the largest n.
    """
    rows = []
    for i in range(len(METHODS)):
        own = results[i * len(config.wide) : (i + 1) * len(config.wide)]
        row = xr.concat(own, "wide").assign_coords(wide=list(config.wide))
        power = fit_slope(np.log2(row.wide.astype(float)), row.best).slope
        kept = row.end.isel(wide=-1, rate=row.end.isel(wide=0).argmin("rate"))
        row = row.assign(best_power=power, lost=kept / row.end.isel(wide=-1).min("rate"))
        rows.append(row.reset_coords("log_rate").rename(rate="lattice"))
    lattice = range(max(row.sizes["lattice"] for row in rows))
    rows = [row.assign_coords(lattice=range(row.sizes["lattice"])) for row in rows]
    rows = [row.reindex(lattice=lattice) for row in rows]
    return xr.concat(rows, "optimizer").assign_coords(optimizer=list(METHODS))


def run(config: Config = Config()) -> xr.Dataset:
    """See `join_cells`; the book's configuration is on record."""
    if config == Config():
        return read_record("polar-autoencoder")
    return join_cells(config, [run_cell(cell) for cell in cells(config)])


@claim("together/muon-transfers", Config, run)
def transfers(result: xr.Dataset) -> Evidence:
    """What the rate that is best at the least n costs Muon at the largest (`lost`), by seed.

    octaves : by which its best rate moves between them; ahead : the least loss of the other
    optimizers over Muon's, the worst seed, by width.
    """
    own, ends = result.sel(optimizer="Muon, Spectral"), result.end.min("lattice")
    others = ends.drop_sel(optimizer="Muon, Spectral").min("optimizer")
    details = {"octaves": own.best.isel(wide=-1) - own.best.isel(wide=0)}
    details["ahead"] = (others / own.end.min("lattice")).min("seed")
    return Evidence(own.lost, 1.0, 0.05, own.seed, details)
