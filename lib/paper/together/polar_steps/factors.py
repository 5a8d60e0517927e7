"""Which factor keeps every layer's change of order one, and one rate for all widths?

From Spectral's start, under polar steps of length eta c(o, i): linear nets, their wide layers
reduced to cores, to n/m = 2^20, and ReLU nets on digits.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import xarray as xr

from learning_dynamics.data.digits import small_digits
from learning_dynamics.saddles.linear_nets.bottleneck import draw_cores
from learning_dynamics.scales.parametrizations import scheme
from learning_dynamics.scales.step_factors import FACTORS
from learning_dynamics.scales.training import initialise
from paper.claims import Evidence, claim
from paper.fits import fit_slope
from paper.records import read_record
from paper.together.polar_steps.descent import plain_muon
from paper.together.polar_steps.tuned import tune
from paper.together.spectral_plateau.plateau import LinearPlateau, linear_start

__all__ = ["Config", "factor", "linear", "measure", "relu"]

MODULES, BOTTLENECK = 3, 16  # n, m, n, m, n


@dataclass(frozen=True)
class Config:
    """ratios : n/m of the linear nets; wide : n of the ReLU nets; seeds of each; steps of a run.

    octaves : rates searched, first and last, log2 of the largest relative step of a layer:
    eta max_l e_l; half an octave apart. The best must not stand at either end.
    """

    ratios: tuple[int, ...] = (2**4, 2**8, 2**12, 2**16, 2**20)
    seeds: int = 3
    wide: tuple[int, ...] = (128, 256, 512, 1024, 2048)
    relu_seeds: int = 4
    steps: int = 60
    octaves: tuple[float, float] = (-7.5, -2.0)

    def quick(self) -> "Config":
        return replace(self, ratios=self.ratios[::2], seeds=1, wide=(64, 128, 256), relu_seeds=1)


def _rates(octaves: tuple[float, float], excess: tuple[float, ...]) -> torch.Tensor:
    low, high = octaves
    lattice = torch.arange(low, high + 0.25, 0.5, dtype=torch.float64)
    return lattice - float(np.log2(max(excess)))


def _joined(found: dict[tuple[str, int], xr.Dataset], size: str) -> xr.Dataset:
    names = list(dict.fromkeys(name for name, _ in found))
    sizes = list(dict.fromkeys(n for _, n in found))
    rows = [xr.concat([found[name, n] for n in sizes], size) for name in names]
    result = xr.concat(rows, "factor").assign_coords({"factor": names, size: sizes})
    logs = np.log2(result[size].astype(float))
    powers = {"best_power": result.best, "change_power": np.log2(result.change)}
    return result.assign({name: fit_slope(logs, y).slope for name, y in powers.items()})


def linear(config: Config = Config()) -> xr.Dataset:
    """Linear nets n, m, n, m, n by factor and n/m; the variables of `tune`, and

    best_power (factor, seed), change_power (factor, seed, layer) : exponents in n/m of the best
    rate, and of the layers' own changes at it.
    """
    found = {}
    for name, which in FACTORS.items():
        for ratio in config.ratios:
            plateau = LinearPlateau(MODULES, ratios=(ratio,), seeds=config.seeds)
            start = linear_start(plateau)
            inputs, m, outputs, k = start.sizes
            n = ratio * m
            excess = which.excess((inputs, *[n, m] * (k - 1), n, outputs))
            cores = draw_cores(*start.sizes, **start.draws)
            found[name, ratio] = tune(
                cores,
                [float(start.multiplier[0]) ** (1 / len(cores))] * len(cores),
                start.problem,
                plain_muon,
                _rates(config.octaves, excess),
                steps=config.steps,
                ratios=excess,
                activation="linear",
            )
    return _joined(found, "ratio")


def measure(config: Config) -> xr.Dataset:
    """As `linear`, for ReLU nets n, m, n, m, n on 60 digits of ten classes, by width n."""
    train, _ = small_digits(60, 10)
    found, m = {}, BOTTLENECK
    for name, which in FACTORS.items():
        for n in config.wide:
            p = scheme("spectral")((len(train.inputs), n, m, n, m, n, len(train.targets)))
            excess = which.excess(p.widths)
            found[name, n] = tune(
                initialise(p.widths, p.weight_stds, list(range(config.relu_seeds))).weights,
                p.multipliers,
                train,
                plain_muon,
                _rates(config.octaves, excess),
                steps=config.steps,
                ratios=excess,
            )
    return _joined(found, "wide")


def relu(config: Config = Config()) -> xr.Dataset:
    """See `measure`; the book's configuration is on record."""
    return read_record("polar-factors") if config == Config() else measure(config)


@claim("together/muon-factor", Config, linear, relu)
def factor(exact: xr.Dataset, digits: xr.Dataset) -> Evidence:
    """Exponents of the best rate, and of the changes of layers into and out of wide layers."""
    both = {"ratio": exact, "wide": digits}
    changes = [d.change_power.mean("seed") for d in both.values()]
    last = [d.change.isel({size: -1}).mean("seed") for size, d in both.items()]
    details = {
        "into_wide": np.array([c[:, ::2].mean("layer") for c in changes]),
        "out_of_wide": np.array([c[:, 1::2].mean("layer") for c in changes]),
        "least_change": np.array([c.min("layer") for c in last]),
    }
    measured = np.ravel([d.best_power.mean("seed") for d in both.values()])
    rates = [float(f.exponents((0, 1, 0, 1, 0, 1, 0)).rate) for f in FACTORS.values()]
    tolerance = np.repeat([0.05, 0.15], len(rates))
    return Evidence(measured, rates * 2, tolerance, exact.seed, details)
