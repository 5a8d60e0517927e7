"""Stages inside a bottleneck net: do directions come one at a time, and up to which rank?

Linear nets n, m, n, m, n (their wide layers integrated out exactly) under DP(r) and Spectral,
on a teacher and on digits; and the ReLU net on digits, layer by layer.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.data.digits import small_digits
from learning_dynamics.problems import linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.linear_nets.bottleneck import draw_modules, train_modules
from learning_dynamics.saddles.theory.staircase import predict_staircase
from learning_dynamics.scales.parametrizations import scheme
from learning_dynamics.scales.training import initialise, sgd
from paper.claims import Evidence
from paper.together.one_axis.dial import position
from paper.together.one_axis.sweep import step_for

__all__ = ["CEILING", "SCHEMES", "Staged", "Stages", "layer_ranks", "measure", "train_staged"]

SCHEMES = ("dp(0)", "dp(1/4)", "dp(1/2)", "spectral")


@dataclass(frozen=True)
class Stages:
    """A linear net n, m, n, m, n on white inputs, targets of singular values 3, 1.5, 0.75.

    speed : step size, see `one_axis.step_for`. every : steps between records."""

    wide: int = 1024
    bottleneck: int = 16
    seeds: int = 4
    speed: float = 0.04
    steps: int = 300
    every: int = 1


#: Small enough for Spectral to finish as well: n/m of 21 to 32.
CEILING = Stages(wide=64, steps=1200, every=100)


@dataclass(frozen=True)
class Staged:
    """One scheme's runs. laziness : Lambda. learned : (seeds, records, 3), share of three leading
    directions of Sigma_yx that is learned. loss : (seeds, records).
    ranks : (seeds, records, K), stable rank of every V_j. levels : losses of the best maps
    of rank 0, 1, ..."""

    name: str
    laziness: float
    steps: Tensor
    learned: Float[Tensor, "seeds records directions"]
    loss: Float[Tensor, "seeds records"]
    ranks: Float[Tensor, "seeds records modules"]
    levels: Float[Tensor, " levels"]

    @property
    def next_share(self) -> Float[Tensor, "seeds pairs"]:
        """Share of direction k+1 when direction k is half learned; 0: one at a time; NaN: k never
        was."""
        rows = torch.arange(len(self.learned))
        pairs = []
        for k in range(self.learned.shape[-1] - 1):
            half = self.learned[..., k] >= 0.5
            share = self.learned[rows, half.long().argmax(-1), k + 1]
            pairs.append(torch.where(half.any(-1), share, torch.nan))
        return torch.stack(pairs, -1)


def train_staged(name: str, config: Stages = Stages()) -> Staged:
    """Train under scheme `name`, at a step size that is stable for its place on the dial."""
    moments = linear_teacher(
        generator=generator("bottleneck-stages"),
        input_spectrum=(1.0,) * 6,
        target_spectrum=(3, 1.5, 0.75),
        covariance="isotropic",
    ).moments()
    outputs, inputs = moments.yx.shape
    n, m, seeds = config.wide, config.bottleneck, list(range(config.seeds))
    p = scheme(name)((inputs, n, m, n, m, n, outputs), 1.0)
    place = position(p)
    many: Any = {"wide": [n] * len(seeds), "init_std": [p.init_stds[0]] * len(seeds)}
    slow = float(step_for(torch.tensor([place.laziness], dtype=torch.float64), 3))
    course = train_modules(
        draw_modules(inputs, m, outputs, 3, seeds=seeds, **many),
        moments,
        multiplier=torch.full((len(seeds),), math.prod(p.multipliers), dtype=torch.float64),
        step_size=config.speed * slow * inputs / (p.depth * place.time_power),
        steps=config.steps,
        record_at=range(0, config.steps + 1, config.every),
        spectra=True,
    )
    u, s, v = torch.linalg.svd(moments.yx, full_matrices=False)
    seen = torch.einsum("ok,rtoi,ij,kj->rtk", u, course.maps, moments.xx, v)[..., :3] / s[:3]
    return Staged(
        name,
        place.laziness,
        course.steps,
        seen - seen[:, :1],
        course.loss,
        course.stable_ranks,
        predict_staircase(moments).levels,
    )


def layer_ranks() -> xr.Dataset:
    """ReLU nets 64, 16, 64, 16, 64 on 80 digits (49 inputs, ten outputs), 200 steps at the places
    of SCHEMES from the same two draws.

    loss (scheme, seed) : at the end. movement, stable_rank (scheme, seed, layer) :
    |W_l - W_l(0)| / |W_l(0)|, Frobenius, and the stable rank of the update W_l - W_l(0).
    In double precision: in single a step that ends a plateau differs between processors.
    """
    train, _ = small_digits(80, 1, dtype=torch.float64)
    widths, seeds = (49, 64, 16, 64, 16, 64, 10), [0, 1] * len(SCHEMES)
    ntk = scheme("dp(0)")(widths)
    places = [position(scheme(s)(widths)).laziness for s in SCHEMES for _ in range(2)]
    laziness = torch.tensor(places, dtype=torch.float64)
    rho = laziness / math.sqrt(min(widths[1:-1]))
    factor = rho ** (1 / ntk.depth)
    start = initialise(widths, ntk.weight_stds, seeds).to(torch.float64)
    for w in start.weights:
        w.mul_(factor[:, None, None])
    first = [w.clone() for w in start.weights]
    run = sgd(
        train,
        start,
        ntk.multipliers,
        seeds=seeds,
        step_size=1.2 * step_for(laziness, ntk.depth // 2) * factor**2 / rho**2,
        steps=200,
        batch_size=train.inputs.shape[1],
        evaluate={"train": train},
        record=(200,),
    )
    change = [w - w0 for w, w0 in zip(run.final.weights, first, strict=True)]
    size = [torch.linalg.matrix_norm(c) for c in change]
    moved = [s / torch.linalg.matrix_norm(w) for s, w in zip(size, first, strict=True)]
    ranks = [(s / torch.linalg.matrix_norm(c, 2)) ** 2 for s, c in zip(size, change, strict=True)]
    shape, dims = (len(SCHEMES), 2), ("scheme", "seed", "layer")
    return xr.Dataset(
        {
            "loss": (dims[:2], run["train_loss"][:, -1].reshape(shape)),
            "movement": (dims, torch.stack(moved, -1).reshape(*shape, -1)),
            "stable_rank": (dims, torch.stack(ranks, -1).reshape(*shape, -1)),
        },
        {"scheme": list(SCHEMES)},
    )


def measure(*, quick: bool = False) -> Evidence:
    """`together/stages-in-bottleneck`: what is staged, and by what.

    measured: share of direction 2 when direction 1 is half learned, by scheme, mean over seeds
    (1/2 would be "all at one speed", 0 "one at a time").
    ceiling: for m = 2 (rank-3 target), (loss at the end - L_2)/L_2, largest over seeds, by scheme.
    slack: the same for m = 3 over L_2, DP(1/2) (must be -1).
    """
    seeds = 4 if quick else 12

    def excess(name: str, units: int) -> Tensor:
        run = train_staged(name, replace(CEILING, bottleneck=units, seeds=seeds))
        return (run.loss[:, -1] - run.levels[2]) / run.levels[2]

    shares = [train_staged(name, Stages(seeds=seeds)).next_share[:, 0] for name in SCHEMES]
    return Evidence(
        measured=[float(share.mean()) for share in shares],
        predicted=0.0,
        tolerance=0.05,
        seeds=list(range(seeds)),
        details={
            "ceiling": [float(excess(name, 2).abs().max()) for name in SCHEMES],
            "slack": float(excess("dp(1/2)", 3).max()),
        },
    )
