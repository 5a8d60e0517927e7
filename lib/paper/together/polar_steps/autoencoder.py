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
from paper.together.polar_steps.descent import Rule, adam, momentum, muon
from paper.together.polar_steps.tuned import tune

__all__ = ["METHODS", "Config", "measure", "run", "transfers"]


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


def _problem(samples: int) -> Problem:
    x = digits(source="sklearn", centre=True).train.inputs
    x = x[:, torch.linspace(0, x.shape[1] - 1, samples).long()]
    x = (x / x.square().mean().sqrt()).float().contiguous()
    return Problem(x, x)


def measure(config: Config) -> xr.Dataset:
    """The variables of `tune` by method and width n.

    end (optimizer, wide, seed, lattice) at log_rate (optimizer, lattice), NaN beyond its rates;
    best_power (optimizer, seed) : exponent in n of the best rate; lost (optimizer, seed) : end of
    the loss at the largest n with the rate of the grid that is best at the smallest n, over its
    least at the largest n.
    """
    problem, rows = _problem(config.samples), []
    for method in METHODS.values():
        low, high = method.octaves
        rates, own = torch.arange(low, high + 0.25, 0.5, dtype=torch.float64), []
        for n in config.wide:
            p = scheme(method.scheme)((64, n, 16, n, 64))
            own.append(
                tune(
                    initialise(p.widths, p.weight_stds, list(range(config.seeds))).weights,
                    p.multipliers,
                    problem,
                    method.rule,
                    rates,
                    steps=config.steps,
                    ratios=None if method.ratios is None else method.ratios(p.widths),
                )
            )
        row = xr.concat(own, "wide").assign_coords(wide=list(config.wide))
        power = fit_slope(np.log2(row.wide.astype(float)), row.best).slope
        kept = row.end.isel(wide=-1, rate=row.end.isel(wide=0).argmin("rate"))
        row = row.assign(best_power=power, lost=kept / row.end.isel(wide=-1).min("rate"))
        row = row.assign(log_rate=("rate", rates)).rename(rate="lattice")
        rows.append(row.assign_coords(lattice=range(len(rates))))
    found = xr.concat(rows, "optimizer", join="outer")
    return found.assign_coords(optimizer=list(METHODS))


def run(config: Config = Config()) -> xr.Dataset:
    """See `measure`; the book's configuration is on record."""
    return read_record("polar-autoencoder") if config == Config() else measure(config)


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
