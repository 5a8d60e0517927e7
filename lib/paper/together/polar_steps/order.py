"""What is won in time is paid in order: polar steps learn all directions at once, small ones first.

White inputs, so that every direction of the target is learned on its own. Gradient descent lets
the map grow along direction j at a rate that rises with s_j; polar steps move it by the same
amount along every direction, whatever s_j, so that the one with least to learn is done first.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import xarray as xr

from learning_dynamics.problems import linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.linear_nets.bottleneck import draw_modules, train_modules
from learning_dynamics.saddles.theory.stages import crossing_steps
from learning_dynamics.scales.parametrizations import scheme
from paper.claims import Evidence, claim
from paper.together.polar_steps.escape import escape_time

__all__ = ["Config", "order", "run"]


@dataclass(frozen=True)
class Config:
    """spectrum : s_j of the target; seeds.

    init_scale, width : of the two-layer net; modules, ratio, bottleneck : K, n/m and m of the net
    at Spectral's start. step_size : eta of polar steps; gradient : step sizes of gradient descent
    on the two nets, steps : how many it takes.
    """

    spectrum: tuple[float, ...] = (4.0, 2.0, 1.0)
    seeds: int = 6
    init_scale: float = 1e-6
    width: int = 64
    modules: int = 3
    ratio: int = 1024
    bottleneck: int = 16
    step_size: float = 0.01
    gradient: tuple[float, float] = (0.05, 0.03)
    steps: tuple[int, int] = (800, 2000)

    def quick(self) -> "Config":
        return replace(self, seeds=2)


STARTS = ("small scale, two layers", "Spectral, two bottlenecks")
RULES = ("gradient descent", "polar steps")


def run(config: Config = Config()) -> xr.Dataset:
    """Both rules from both starts.

    half (start, rule, seed, mode) : step at which u_j'f v_j has reached s_j/2.
    predicted (start, mode) : the same under polar steps, in closed form.
    rank (start, rule, seed) : stable rank |f|_F^2/|f|_2^2 of the map where the first of the
    directions is half learned.
    learned (start, rule, mode, step) : u_j'f v_j/s_j of the first seed, NaN after the run's end.
    """
    problem = linear_teacher(
        generator=generator("polar-order"),
        input_spectrum=(1.0,) * 6,
        target_spectrum=config.spectrum,
        covariance="isotropic",
    )
    moments, seeds = problem.moments(), list(range(config.seeds))
    u, s, v = torch.linalg.svd(moments.yx, full_matrices=False)
    u, s, v = (x[..., : len(config.spectrum)] for x in (u, s, v.mT))
    outputs, inputs = moments.yx.shape
    m, k, n = config.bottleneck, config.modules, config.ratio * config.bottleneck
    p = scheme("spectral")((inputs, *[n, m] * (k - 1), n, outputs), 1.0)

    many = len(seeds)
    starts = []
    for j, wide, std, g in (
        (1, config.width, config.init_scale, 1.0),
        (k, n, p.init_stds[0], math.prod(p.multipliers)),
    ):
        how: Any = {"wide": [wide] * many, "init_std": [std] * many, "seeds": seeds}
        starts.append((draw_modules(inputs, m, outputs, j, **how), g))
    times = [
        [math.sqrt(float(x) / 2) / config.step_size for x in s],
        [escape_time(float(x) / 2 / starts[1][1], k, config.step_size) for x in s],
    ]
    half, rank = torch.empty(2, 2, many, len(s)).double(), torch.empty(2, 2, many).double()
    learned = torch.full((2, 2, len(s), max(config.steps) + 1), torch.nan, dtype=torch.float64)
    for i, (modules, multiplier) in enumerate(starts):
        for j in range(2):
            course = train_modules(
                modules,
                moments,
                multiplier=torch.full((many,), multiplier, dtype=torch.float64),
                step_size=config.step_size if j else config.gradient[i],
                steps=math.ceil(1.3 * max(times[i])) if j else config.steps[i],
                polar=torch.ones(many, 2 * len(modules), dtype=torch.float64) if j else None,
            )
            seen = torch.einsum("oj,rtoi,ij->rjt", u, course.maps, v) / s[:, None]
            marks = torch.full((many, 1), -0.5, dtype=torch.float64)
            modes = [crossing_steps(-share, marks, course.steps)[:, 0] for share in seen.unbind(1)]
            half[i, j] = torch.stack(modes, -1)
            if bool(half[i, j].isnan().any()):
                raise ValueError(f"steps = {config.steps}: too few to learn half of all directions")
            first = half[i, j].amin(-1).round().long()
            values = torch.linalg.svdvals(course.maps[torch.arange(many), first])
            rank[i, j] = (values / values[:, :1]).square().sum(-1)
            learned[i, j, :, : seen.shape[-1]] = seen[0]
    both = ("start", "rule")
    return xr.Dataset(
        {
            "half": ((*both, "seed", "mode"), half),
            "predicted": (("start", "mode"), times),
            "rank": ((*both, "seed"), rank),
            "learned": ((*both, "mode", "step"), learned),
        },
        {"start": list(STARTS), "rule": list(RULES), "seed": seeds, "mode": range(1, len(s) + 1)},
    )


@claim("together/muon-order", Config, run)
def order(result: xr.Dataset) -> Evidence:
    """Steps to half of each direction under polar steps, in units of the closed form."""
    mean = result.half.mean("seed")
    details = {
        "rank": result["rank"].sel(rule="polar steps").min("seed"),
        "rank_gradient": result["rank"].sel(rule="gradient descent").max("seed"),
        "waits": mean.sel(rule="polar steps").diff("mode").max("mode"),
        "waits_gradient": mean.sel(rule="gradient descent").diff("mode").min("mode"),
    }
    share = mean.sel(rule="polar steps") / result.predicted
    return Evidence(share, 1.0, 0.05, result.seed, details)
