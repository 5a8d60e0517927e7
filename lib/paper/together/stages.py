"""Stages inside a bottleneck net: do directions come one at a time, and up to which rank?

Linear nets n, m, n, m, n (their wide layers integrated out exactly) under DP(r) and Spectral,
on a teacher and on digits; and the ReLU net on digits, layer by layer.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.problems import Moments, Problem, linear_teacher
from learning_dynamics.runtime import check_choice, generator
from learning_dynamics.saddles.linear_nets.bottleneck import draw_modules, train_modules
from learning_dynamics.saddles.theory.staircase import predict_staircase
from learning_dynamics.scales.parametrizations import scheme
from paper.claims import Evidence
from paper.together.one_axis.dial import position
from paper.together.one_axis.sweep import Axis, AxisSweep, small_digits, step_for, sweep

__all__ = [
    "CEILING",
    "SCHEMES",
    "Staged",
    "Stages",
    "layer_ranks",
    "measure",
    "moments_of",
    "train_staged",
]

SCHEMES = ("dp(0)", "dp(1/4)", "dp(1/2)", "spectral")


@dataclass(frozen=True)
class Stages:
    """A linear net n, m, n, m, n; data "teacher" (white inputs, singular values 3, 1.5, 0.75) or
    "digits" (12 components, ten classes). speed : step size, see `one_axis.step_for`. every : steps
    between records. spectra : record the stable ranks."""

    data: str = "teacher"
    wide: int = 1024
    bottleneck: int = 16
    seeds: int = 4
    speed: float = 0.04
    steps: int = 300
    every: int = 1
    spectra: bool = True


#: Small enough for Spectral to finish as well: n/m of 21 to 32.
CEILING = Stages(wide=64, steps=1200, every=100, spectra=False)


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


def moments_of(data: str) -> Moments:
    """Second moments of the "teacher" or of 400 "digits" (12 leading principal components)."""
    check_choice("data", data, ("teacher", "digits"))
    if data == "digits":
        train, _ = small_digits(400, 10, dtype=torch.float64)
        basis, scales, _ = torch.linalg.svd(train.inputs, full_matrices=False)
        inputs = basis[:, :12].mT @ train.inputs * (400 / scales[:12].square().mean()).sqrt()
        return Problem(inputs, train.targets).moments()
    return linear_teacher(
        generator=generator("bottleneck-stages"),
        input_spectrum=(1.0,) * 6,
        target_spectrum=(3, 1.5, 0.75),
        covariance="isotropic",
    ).moments()


def train_staged(name: str, config: Stages = Stages()) -> Staged:
    """Train under scheme `name`, at a step size that is stable for its place on the dial."""
    moments = moments_of(config.data)
    outputs, inputs = moments.yx.shape
    n, m = config.wide, config.bottleneck
    p = scheme(name)((inputs, n, m, n, m, n, outputs), 1.0)
    place = position(p)
    top = float(torch.linalg.eigvalsh(moments.xx)[-1])
    slow = float(step_for(torch.tensor([place.laziness], dtype=torch.float64), 3))
    seeds = list(range(config.seeds))
    course = train_modules(
        draw_modules(
            inputs,
            m,
            outputs,
            3,
            wide=[n] * len(seeds),
            init_std=[p.init_stds[0]] * len(seeds),
            seeds=seeds,
        ),
        moments,
        multiplier=torch.full((len(seeds),), math.prod(p.multipliers), dtype=torch.float64),
        step_size=config.speed * slow * inputs / (p.depth * top * place.time_power),
        steps=config.steps,
        record_at=range(0, config.steps + 1, config.every),
        spectra=config.spectra,
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


def layer_ranks(hidden: tuple[int, ...] = (64, 16, 64, 16, 64)) -> AxisSweep:
    """The ReLU net on digits at the places of DP(0), DP(1/4), DP(1/2) and Spectral."""
    widths = (49, *hidden, 10)
    places = tuple(position(scheme(name)(widths)).laziness for name in SCHEMES)
    return sweep(Axis(hidden, places))


def measure(*, quick: bool = False) -> Evidence:
    """`together/stages-in-bottleneck`: what is staged, and by what.

    measured: share of direction 2 when direction 1 is half learned, for DP(0), DP(1/4), DP(1/2),
              Spectral,
    mean over seeds, teacher with white inputs (1/2 would be "all at one speed", 0 "one at a time").
    ceiling: for m = 2 (rank-3 target), (loss at the end - L_2)/L_2, largest over seeds, by scheme.
    slack: the same for m = 3 over L_2, DP(1/2) (must be -1).
    """
    seeds = 4 if quick else 12
    share, ceiling = [], []
    for name in SCHEMES:
        share.append(
            float(train_staged(name, Stages(seeds=seeds, spectra=False)).next_share[:, 0].mean())
        )
        narrow = train_staged(name, replace(CEILING, bottleneck=2, seeds=seeds))
        ceiling.append(
            float(((narrow.loss[:, -1] - narrow.levels[2]) / narrow.levels[2]).abs().max())
        )
    wider = train_staged("dp(1/2)", replace(CEILING, bottleneck=3, seeds=seeds))
    slack = (wider.loss[:, -1] - wider.levels[2]) / wider.levels[2]
    return Evidence(
        measured=share,
        predicted=0.0,
        tolerance=0.05,
        seeds=list(range(seeds)),
        details={"ceiling": ceiling, "slack": float(slack.max())},
    )
