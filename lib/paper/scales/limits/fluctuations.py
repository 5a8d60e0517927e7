"""Finite width: the spread of the contributions over initialisations against the widths."""

from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr

from learning_dynamics.runtime import generator
from learning_dynamics.scales.fluctuations import (
    contributions,
    inverse_width_sum,
    last_layer_spread,
    spread,
    tangent_kernel_spread,
)
from paper.claims import Evidence

__all__ = ["Fluctuations", "fluctuation_law", "fluctuations", "slope_through_origin"]


@dataclass(frozen=True)
class Fluctuations:
    """Widths (n, m), alternating n, m, n, m, n, and the number of random networks at each."""

    widths: tuple[tuple[int, int], ...] = (
        (48, 16),
        (96, 16),
        (64, 24),
        (96, 32),
        (128, 32),
        (128, 48),
        (192, 48),
        (256, 64),
    )
    draws: int = 6000
    blocks: int = 20


QUICK = Fluctuations(widths=((32, 12), (48, 16), (64, 16), (64, 24), (96, 32)), draws=4000)


def fluctuations(config: Fluctuations) -> xr.Dataset:
    """Spread log(E[C^2]/E[C]^2) of each layer's contribution and of their sum, by widths.

    Dimensions pair, layer and block (jackknife: the spread without that block of draws).
    """
    table, laws = [], []
    known = (inverse_width_sum, last_layer_spread, tangent_kernel_spread)
    for n, m in config.widths:
        hidden = (n, m, n, m, n)
        c = contributions(hidden, config.draws, generator("fluctuations", n, m))
        parts = c.tensor_split(config.blocks)
        kept = [torch.cat([*parts[:b], *parts[b + 1 :]]) for b in range(config.blocks)]
        table.append([[spread(v) for v in (*k.unbind(1), k.sum(1))] for k in (c, *kept)])
        laws.append([law(hidden) for law in known])
    found = xr.DataArray(table, dims=("pair", "block", "layer"))
    layers, total = found[..., :-1].assign_coords(layer=range(1, 7)), found[..., -1]
    beta, exact, kernel = (("pair", list(law)) for law in zip(*laws, strict=True))
    wide, narrow = (("pair", list(widths)) for widths in zip(*config.widths, strict=True))
    return xr.Dataset(
        {
            "layer_spread": layers[:, 0],
            "total_spread": total[:, 0],
            "layer_without": layers[:, 1:],
            "total_without": total[:, 1:],
            "beta": beta,
            "exact": exact,
            "kernel": kernel,
        },
        {"n": wide, "m": narrow},
    )


def slope_through_origin(x: np.ndarray, y: np.ndarray, without: np.ndarray) -> tuple[float, float]:
    """Slope of y = slope x and the half-width of its 95 % interval.

    y : (points,); without : (points, blocks), the same with one block of draws left out. The
    points are independent, so their jackknife variances add.
    """
    weights = x / np.square(x).sum()
    blocks = without.shape[1]
    deviations = without - without.mean(1, keepdims=True)
    variance = (blocks - 1) / blocks * np.square(deviations).sum(1)
    return float(weights @ y), float(1.96 * np.sqrt(np.square(weights) @ variance))


def fluctuation_law(*, quick: bool = False) -> Evidence:
    """Claim scales/fluctuations: slopes of measured against predicted spread, 1 in theory.

    measured: slope of the layers' mean spread against sum log(1 + 5/n_l), and of the spread of
    their sum against sum_l c_l/n_l. details: half-widths of the 95 % intervals and the plain
    slopes against beta = sum 1/n_l.
    """
    found = fluctuations(QUICK if quick else Fluctuations())
    layers = found.layer_spread.mean("layer").values
    layers_without = found.layer_without.mean("layer").values
    total = (found.total_spread.values, found.total_without.values)
    one, one_half = slope_through_origin(found.exact.values, layers, layers_without)
    two, two_half = slope_through_origin(found.kernel.values, *total)
    beta_layer, _ = slope_through_origin(found.beta.values, layers, layers_without)
    beta_total, beta_half = slope_through_origin(found.beta.values, *total)
    return Evidence(
        measured=[one, two],
        predicted=[1.0, 1.0],
        tolerance=[0.08, 0.1],
        details={
            "half_width": [one_half, two_half],
            "layer_slope_in_beta": beta_layer,
            "sum_slope_in_beta": beta_total,
            "sum_half_width_in_beta": beta_half,
        },
    )
