"""Does the law of alignment depend on how the weights are drawn, or on which saddle is left?"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Generator, Tensor

from learning_dynamics.problems import Moments
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.theory import staircase
from paper.fits import fit_slope
from paper.saddles.over_the_prior.draws import STARTS, gaussian
from paper.saddles.plateau.alignment import ESCAPES, ratio
from paper.saddles.random_linear import follow_grid, moments_with_gaps

__all__ = ["NAMES", "Config", "near_saddle", "run"]

#: By how much the first and the second layer are larger than Gaussian numbers.
LAYERS = {
    "Gaussian": (1.0, 1.0),
    "first layer 100 times larger": (100.0, 1.0),
    "second layer 100 times larger": (1.0, 100.0),
    "second layer zero": (1.0, 0.0),
}
NAMES = [*LAYERS, "uniform", "one sign", "sparse (1 in 4)", "Cauchy"]
#: Non-zero saddles that are left, by name; k is their rank.
SADDLES = {f"near the rank-{k} saddle": k for k in (1, 2)}


def _start(name: str, g: Generator) -> Float[Tensor, "m1 coordinate"]:
    """Ten units of 6 inputs and 4 outputs, of the law called `name`."""
    first, second = LAYERS.get(name, (1.0, 1.0))
    factors = torch.tensor([first] * 6 + [second] * 4, dtype=torch.float64)
    return STARTS.get(name, gaussian)(g, 10, 10) * factors


def near_saddle(
    moments: Moments, k: int, noise: Float[Tensor, "m1 coordinate"], balance: float = 2.0
) -> Float[Tensor, "m1 coordinate"]:
    """`noise` added to a point of the rank-k saddle: k active units, the others dormant.

    balance : how much larger than in a balanced factorisation the first layer is.
    """
    u, s, vh = torch.linalg.svd(staircase.rank_k_map(moments, k), full_matrices=False)
    root = s[:k, None].sqrt()
    units = noise.clone()
    units[:k] += torch.cat([balance * root * vh[:k], root * u[:, :k].mT / balance], dim=-1)
    return units


@dataclass(frozen=True)
class Config:
    """problems, scales epsilon, and eta s_1."""

    problems: int = 10
    scales: tuple[float, ...] = (1e-12, 1e-16, 1e-20)
    relative_step: float = 0.3

    def quick(self) -> "Config":
        return replace(self, problems=3)


def run(config: Config = Config()) -> xr.Dataset:
    """Escapes 1 to 3 for each law, and the next escape of starts near a saddle.

    ratio (start, problem, scale, escape) : sigma_{k+1}(S)/sigma_k(S) at escape k; measured,
    half_width, predicted (start, problem, escape) : its power of epsilon. All are NaN at the
    other escapes of starts near a saddle.
    """
    batch, names = moments_with_gaps(config.problems), [*NAMES, *SADDLES]
    rows = []
    for name in names:
        for i, moments in enumerate(batch):
            noise = _start(name, generator("any-start", name, i))
            k = SADDLES.get(name, 0)
            for e in torch.tensor(config.scales, dtype=torch.float64):
                rows.append(near_saddle(moments, k, e * noise) if k else e * noise)
    starts, scales = torch.stack(rows), config.scales
    track, theory = follow_grid(batch, starts, scales, config.relative_step, drop=3)
    grid = (len(names), len(batch), len(scales), len(ESCAPES))
    ratios = torch.full(grid, torch.nan, dtype=torch.float64)
    predicted = ratios[:, :, 0].clone()
    for i, (name, modes) in enumerate(zip(names, track.modes.chunk(len(names)), strict=True)):
        k = SADDLES.get(name, 0)
        # From a saddle on, all dormant modes start anew at exponent 1.
        exponents = staircase.recursion(theory.rates[:, k:, : 4 - k], theory.step_size)[1]
        for escape in ESCAPES[k : k + 1] if k else ESCAPES:
            ratios[i, ..., escape - 1] = ratio(modes, escape).reshape(grid[1:3])
            predicted[i, :, escape - 1] = exponents[:, escape - 1 - k]
    dims = ("start", "problem", "scale", "escape")
    coords = dict(zip(dims, (names, range(len(batch)), list(scales), ESCAPES), strict=True))
    variables = {"ratio": (dims, ratios), "predicted": ((*dims[:2], "escape"), predicted)}
    result = xr.Dataset(variables, coords)
    power = fit_slope(np.log(result.scale), np.log(result.ratio))
    return result.assign(measured=power.slope, half_width=power.half_width)
