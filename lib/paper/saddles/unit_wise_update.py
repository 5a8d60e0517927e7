"""Lemma 1 put to the test: how wrong is the unit-wise step, per activation and weight scale?"""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
import xarray as xr

from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.theory.unit_matrix import unit_error, unit_gradient
from learning_dynamics.saddles.two_layer import initialise
from paper.claims import Evidence, claim

__all__ = ["CURVED", "EXACT", "Config", "run", "unit_wise"]

EXACT = ["linear", "relu", "leaky_relu"]
CURVED = ["tanh", "gelu", "softplus", "sigmoid", "square"]


@dataclass(frozen=True)
class Config:
    """Sizes (m0, m1, m2), samples, losses, weight scales (standard deviations), number of seeds."""

    widths: tuple[int, int, int] = (6, 8, 4)
    samples: int = 30
    losses: tuple[str, ...] = ("squared", "huber")
    scales: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 3.0)
    seeds: int = 12

    def quick(self) -> "Config":
        return replace(self, seeds=2)


def run(config: Config = Config()) -> xr.Dataset:
    """Errors of both forms for all activations, on random data (X, Y Gaussian).

    error (activation, loss, scale, form, seed) : relative error of one step, max over units.
    printed, gradient (activation, scale) : error of the printed form, and norm of the whole
    gradient, for the first loss, (lower) median over seeds.
    slope (activation) : d log(printed)/d log(scale) between the two smallest scales, CURVED only.
    """
    m0, _, m2 = config.widths
    g, size = generator("unit-wise-update", "data"), (config.seeds, config.samples)
    x, y = (torch.randn(size[0], m, size[1], generator=g, dtype=torch.float64) for m in (m0, m2))
    coords = {
        "activation": EXACT + CURVED,
        "loss": list(config.losses),
        "scale": list(config.scales),
        "form": ["printed", "secant"],
        "seed": range(config.seeds),
    }
    errors, norms = [], []
    for name, loss, scale in product(EXACT + CURVED, config.losses, config.scales):
        streams = [generator("unit-wise-update", s) for s in range(config.seeds)]
        step = initialise(config.widths, scale, streams), Problem(x, y)
        for form in ("printed", "secant"):
            errors.append(unit_error(*step, activation=name, loss=loss, form=form))
        norms.append(unit_gradient(*step, activation=name, loss=loss).flatten(-2).norm(dim=-1))
    dims, grid = ("activation", "loss", "scale"), (-1, len(config.losses), len(config.scales))
    variables = {
        "error": ((*dims, "form", "seed"), torch.stack(errors).reshape(*grid, 2, config.seeds)),
        "norm": ((*dims, "seed"), torch.stack(norms).reshape(*grid, config.seeds)),
    }
    result = xr.Dataset(variables, coords)
    first = result.isel(loss=0, drop=True)
    middle = first.quantile(0.5, "seed", method="lower").drop_vars("quantile")
    result["printed"], result["gradient"] = middle.error.sel(form="printed", drop=True), middle.norm
    logs = np.log(result.printed.sel(activation=CURVED)[:, :2].values)
    slope = np.diff(logs)[:, 0] / np.log(config.scales[1] / config.scales[0])
    result["slope"] = xr.DataArray(slope, {"activation": CURVED})
    return result.drop_vars("norm")


@claim("saddles/unit-wise-update", Config, run)
def unit_wise(result: xr.Dataset) -> Evidence:
    """Worst errors of the exact cases and of the secant form."""
    worst = result.error.max(["loss", "scale", "seed"]).sel(form=["printed", "secant"])
    exact, secant = worst.sel(form="printed", activation=EXACT), worst.sel(form="secant")
    curved = result.sel(activation=CURVED)
    details = {
        "printed_error_at_scale_1": curved.printed.sel(scale=1.0),
        "printed_slope": curved.slope,
    }
    measured = [float(exact.max()), float(secant.max())]
    return Evidence(measured, [0.0, 0.0], [1e-13, 1e-12], result.seed, details)
