"""What optimizers add to plain polar steps: momentum, few iterations for the root, and decay."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from learning_dynamics.saddles.linear_nets.bottleneck import draw_cores
from learning_dynamics.saddles.theory.stages import crossing_steps
from paper.claims import Evidence, claim
from paper.fits import fit_slope
from paper.together.polar_steps.descent import descend, plain_muon
from paper.together.spectral_plateau.plateau import LinearPlateau, Start, linear_start

__all__ = ["RULES", "Config", "decayed", "perturbed", "run"]

#: Name -> iterations of Newton and Schulz (0: the exact polar factor), and momentum.
RULES = {
    "exact": (0, 0.0),
    "five iterations": (5, 0.0),
    "three iterations": (3, 0.0),
    "momentum 0.9": (0, 0.9),
    "momentum 0.95, five iterations": (5, 0.95),
}


@dataclass(frozen=True)
class Config:
    """ratios : n/m; seeds; step_size, steps of the runs without decay; decay : lambda of
    W <- (1 - eta lambda) W, with a smaller step size and more steps."""

    ratios: tuple[int, ...] = (2**4, 2**12, 2**20)
    seeds: int = 2
    step_size: float = 0.02
    steps: int = 60
    decay: float = 0.5
    slow: tuple[float, int] = (0.005, 2500)

    def quick(self) -> "Config":
        return replace(self, seeds=1)


def _train(
    start: Start, rule: str, step_size: float, steps: int, decay: float = 0.0, observe: Any = None
):
    cores = draw_cores(*start.sizes, **start.draws)
    iterations, momentum = RULES[rule]
    return descend(
        cores,
        [float(start.multiplier[0]) ** (1 / len(cores))] * len(cores),
        start.problem,
        plain_muon(iterations, momentum),
        step_size=torch.full((len(cores[0]),), step_size, dtype=torch.float64),
        steps=steps,
        activation="linear",
        decay=decay,
        observe=observe,
    )


def run(config: Config = Config()) -> xr.Dataset:
    """half (rule, ratio, seed) : steps to half of the loss of f = 0, two bottlenecks."""
    start = linear_start(LinearPlateau(3, ratios=config.ratios, seeds=config.seeds))
    found = []
    for rule in RULES:
        loss, _ = _train(start, rule, config.step_size, config.steps)
        half = torch.full((len(loss), 1), 0.5, dtype=torch.float64)
        found.append(crossing_steps(loss, half, torch.arange(config.steps + 1))[:, 0])
    steps = torch.stack(found).reshape(len(RULES), len(config.ratios), -1)
    coords = {"rule": list(RULES), "ratio": list(config.ratios)}
    return xr.Dataset({"half": (("rule", "ratio", "seed"), steps)}, coords)


def decayed(config: Config = Config()) -> xr.Dataset:
    """Where polar steps with decoupled decay come to rest, at the least and the largest n/m.

    values (ratio, layer, mode) : singular values of the weights in Spectral's gauge, first draw,
    mean over the last fifth of the steps: steps of fixed length keep turning about the end;
    predicted (mode) : (s_k/G)^(1/2K), s_k those of the best map.
    """
    ratios = (config.ratios[0], config.ratios[-1])
    start = linear_start(LinearPlateau(3, ratios=ratios, seeds=1))
    seen: list[Tensor] = []

    def watch(step: int, weights: list[Tensor], _: list[Tensor]) -> None:
        if step >= 0.8 * config.slow[1]:
            seen.append(torch.stack([torch.linalg.svdvals(w)[:, :modes] for w in weights], 1))

    moments = start.problem.moments()
    modes = min(moments.yx.shape[-2:])
    _, weights = _train(start, "exact", *config.slow, decay=config.decay, observe=watch)
    best = torch.linalg.svdvals(moments.yx @ torch.linalg.inv(moments.xx))
    values = torch.stack(seen).mean(0)
    predicted = (best / float(start.multiplier[0])) ** (1 / len(weights))
    return xr.Dataset(
        {"values": (("ratio", "layer", "mode"), values), "predicted": ("mode", predicted)},
        {"ratio": list(ratios), "layer": range(1, len(weights) + 1)},
    )


@claim("together/muon-in-practice", Config, run, decayed)
def perturbed(result: xr.Dataset, rest: xr.Dataset) -> Evidence:
    """Exponents in n/m of the steps to half the loss; delays; norms of the layers at rest."""
    mean = result.half.mean("seed")
    power = fit_slope(np.log(mean.ratio.astype(float)), np.log(mean)).slope
    last = mean.isel(ratio=-1)
    norm = np.sqrt((rest["values"] ** 2).sum("mode")) / math.sqrt(float((rest.predicted**2).sum()))
    details = {"delay": last / last[0], "norm": norm}
    return Evidence(power, 0.0, 0.1, range(result.sizes["seed"]), details)
