"""Does the law of alignment depend on how the weights are drawn, or on which saddle is left?"""

from collections.abc import Callable
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
from paper.saddles.plateau.alignment import ESCAPES, ratio
from paper.saddles.random_linear import follow_grid, kept, moments_with_gaps

__all__ = ["STARTS", "Config", "near_saddle", "run"]

SIZE = (10, 10)  # units, and coordinates of a unit: 6 inputs, 4 outputs


def _normal(g: Generator) -> Tensor:
    return torch.randn(*SIZE, generator=g, dtype=torch.float64)


def _uniform(g: Generator) -> Tensor:
    return torch.rand(*SIZE, generator=g, dtype=torch.float64)


def _layers(first: float, second: float) -> Callable[[Generator], Tensor]:
    return lambda g: _normal(g) * torch.tensor([first] * 6 + [second] * 4, dtype=torch.float64)


#: Laws of the start S (m1, m0 + m2); each is multiplied by epsilon.
STARTS: dict[str, Callable[[Generator], Tensor]] = {
    "Gaussian": _normal,
    "first layer 100 times larger": _layers(100.0, 1.0),
    "second layer 100 times larger": _layers(1.0, 100.0),
    "second layer zero": _layers(1.0, 0.0),
    "uniform": lambda g: 2 * _uniform(g) - 1,
    "one sign": lambda g: _normal(g).abs(),
    "sparse (1 in 4)": lambda g: (_uniform(g) < 0.25) * _normal(g),
    "Cauchy": lambda g: _normal(g) / _normal(g),
}
#: Non-zero saddles that are left, by name; k is their rank.
SADDLES = {f"near the rank-{k} saddle": k for k in (1, 2)}


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
    batch, names = moments_with_gaps(config.problems), [*STARTS, *SADDLES]
    rows = []
    for name in names:
        for i, moments in enumerate(batch):
            noise = STARTS.get(name, _normal)(generator("any-start", name, i))
            k = SADDLES.get(name, 0)
            for e in torch.tensor(config.scales, dtype=torch.float64):
                rows.append(near_saddle(moments, k, e * noise) if k else e * noise)
    starts, scales = torch.stack(rows), config.scales
    track, theory = follow_grid(batch, starts, scales, config.relative_step, drop=3)
    grid = (len(names), len(batch), len(scales), len(ESCAPES))
    ratios = torch.full(grid, torch.nan, dtype=torch.float64)
    predicted = ratios[:, :, 0].clone()
    for i, (name, modes) in enumerate(zip(names, kept(track.modes).chunk(len(names)), strict=True)):
        k = SADDLES.get(name, 0)
        # From a saddle on, all dormant modes start anew at exponent 1.
        exponents = staircase.recursion(theory.rates[:, k:, : 4 - k], theory.step_size)[1]
        for escape in ESCAPES[k : k + 1] if k else ESCAPES:
            ratios[i, ..., escape - 1] = ratio(modes, escape).reshape(grid[1:3])
            predicted[i, :, escape - 1] = exponents[:, escape - 1 - k]
    variables = {
        "ratio": (("start", "problem", "scale", "escape"), ratios),
        "predicted": (("start", "problem", "escape"), predicted),
    }
    coords = {"start": names, "problem": range(len(batch)), "escape": ESCAPES}
    result = xr.Dataset(variables, coords | {"scale": list(scales)})
    power = fit_slope(np.log(result.scale), np.log(result.ratio))
    return result.assign(measured=power.slope, half_width=power.half_width)
