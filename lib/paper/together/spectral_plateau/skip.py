"""Skipping Spectral's start-up plateau: by a larger start, and by a time reparametrisation.

*Jump*: multiply all initial weights by (n/m)^(1/4) and the step by sqrt(m/n) (one output): the run
is then DP(1/2), step for step (`dial.same_run`). *Time reparametrisation*: keep Spectral's start
and take steps that are long where the plateau is flat, along the path of gradient descent itself.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from paper.claims import Evidence
from paper.together.one_axis.sweep import identities
from paper.together.spectral_plateau.plateau import LinearPlateau, linear_plateaus
from paper.together.spectral_plateau.time_reparametrisation import (
    digit_losses,
    reparametrisation_power,
)

__all__ = ["METHODS", "Skip", "compare", "compare_digits", "measure", "tuned_digits"]

#: name -> (scheme, whether time is reparametrised)
METHODS = {
    "Spectral": ("spectral", False),
    "Spectral, time reparametrised": ("spectral", True),
    "DP(1/2)": ("dp(1/2)", False),
}


@dataclass(frozen=True)
class Skip:
    """The pattern n, 16, n, 16, n with ReLU on ten classes of digits, one step size for all."""

    wide: int = 1024
    samples: int = 100
    level: float = 0.25
    step_size: float = 0.5
    most_steps: int = 300


def compare(
    ratios: tuple[int, ...] = (16, 64, 256, 1024, 4096), seeds: int = 4
) -> dict[str, Float[Tensor, "ratios seeds"]]:
    """Steps until a net with two bottlenecks has half learned its first direction; by method."""
    power = reparametrisation_power(3)
    nets = {
        name: LinearPlateau(3, which, ratios=ratios, seeds=seeds, time_power=power * changed)
        for name, (which, changed) in METHODS.items()
    }
    return {name: linear_plateaus(net).measured for name, net in nets.items()}


def compare_digits(config: Skip = Skip(), seed: int = 0) -> dict[str, Tensor]:
    """Losses of one ReLU net on digits by method, until `level` of the loss of f = 0."""
    how: Any = {"stop": config.level, "step_size": config.step_size, "steps": config.most_steps}
    return {
        name: digit_losses(
            *(which, config.wide, seed, config.samples, torch.float64),
            time_power=reparametrisation_power(3) * changed,
            **how,
        )
        for name, (which, changed) in METHODS.items()
    }


def tuned_digits(
    config: Skip = Skip(wide=256, most_steps=200),
    seeds: int = 5,
    step_sizes: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0),
) -> xr.DataArray:
    """Steps to `level` by (seed, method), each at the best of the step sizes; inf: not reached."""
    best = np.full((seeds, len(METHODS)), np.inf)
    for seed in range(seeds):
        for step_size in step_sizes:
            runs = compare_digits(replace(config, step_size=step_size), seed)
            steps = [
                len(loss) - 1 if float(loss[-1]) <= config.level else np.inf
                for loss in runs.values()
            ]
            best[seed] = np.minimum(best[seed], steps)
    return xr.DataArray(best, {"seed": range(seeds), "method": list(METHODS)}, ("seed", "method"))


def measure(*, quick: bool = False) -> Evidence:
    """`together/skip-spectral`: the jump is exact, reparametrised plateaus grow like a logarithm.

    measured: steps at n/m = 16, 64, ..., 4096 with time reparametrised, mean over seeds. predicted:
    the line in log(n/m) through the first and the last. plain: without it. rich: DP(1/2). gap:
    largest relative difference between Spectral jumped and DP(1/2), ReLU. digits: steps of one ReLU
    net on digits to a quarter of the loss: plain, reparametrised, DP(1/2).
    """
    seeds = 4 if quick else 8
    found = {name: v.mean(1) for name, v in compare(seeds=seeds).items()}
    steps = found["Spectral, time reparametrised"].numpy()
    digits = compare_digits(Skip(wide=256 if quick else 1024))
    return Evidence(
        measured=steps.tolist(),
        predicted=np.linspace(steps[0], steps[-1], len(steps)).tolist(),
        tolerance=0.5,
        seeds=list(range(seeds)),
        details={
            "plain": found["Spectral"].tolist(),
            "rich": found["DP(1/2)"].tolist(),
            "gap": identities()["spectral"],
            "digits": [float(len(digits[name]) - 1) for name in METHODS],
        },
    )
