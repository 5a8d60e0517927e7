"""Spectral's start-up plateau, predicted as the escape from a saddle.

With K wide layers of width n around K - 1 bottlenecks of width m the net acts as a chain of K
maps V_j, each the product of the two matrices around a wide layer. At Spectral's start every V_j
has gains of order sqrt(m/n) and moves with a constant kernel: a K-layer net near its saddle at
the origin. With the residual frozen there, as in Part I, the escape is a flow that is homogeneous
of degree K - 1, so it takes a time proportional to (n/m)^((K-2)/2), a logarithm for K = 2.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.problems import Problem, linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.linear_nets.bottleneck import (
    Module,
    chain,
    draw_modules,
    train_modules,
)
from learning_dynamics.saddles.theory.stages import crossing_steps
from learning_dynamics.scales.parametrizations import scheme
from paper.claims import Evidence
from paper.together.spectral_plateau.time_reparametrisation import digit_losses

__all__ = ["LinearPlateau", "Plateaus", "ReluPlateau", "ReluPlateaus", "Start", "crossing"]
__all__ += ["frozen_escape", "linear_plateaus", "linear_start", "measure", "relu_plateaus", "slope"]


@dataclass(frozen=True)
class LinearPlateau:
    """Alternating linear nets under one scheme; `ratios` are n/m.

    modules : K wide layers, K - 1 bottlenecks. time_power : see `train_modules`. The teacher has
    inputs with eigenvalues 2, 1.2, 0.8, 0.5 and targets 3, 1.5, 0.6 in general position.
    """

    modules: int = 3
    scheme: str = "spectral"
    bottleneck: int = 16
    ratios: tuple[int, ...] = (16, 64, 256, 1024, 4096)
    seeds: int = 4
    step_size: float = 0.08
    most_steps: int = 4000
    time_power: float = 0.0


@dataclass(frozen=True)
class Plateaus:
    """Leading dimensions (ratios, seeds).

    measured  : step at which the map has learned half of its first direction.
    predicted : the same from the frozen saddle. overlap : |<u1, q1>| |<v1, p1>| of the map's
    leading pair at the escape (`measured`) with that of Sigma_yx.
    second    : sigma_2 / sigma_1 of the map there.
    ranks     : (..., K), stable rank of every V_j there. wide_change : |Q - Q_0|_2 / |Q_0|_2 of the
    first module, Q = B B': how far the weights of its wide layer have left their start.
    """

    config: LinearPlateau
    measured: Float[Tensor, "ratios seeds"]
    predicted: Float[Tensor, "ratios seeds"]
    overlap: Float[Tensor, "ratios seeds"]
    second: Float[Tensor, "ratios seeds"]
    ranks: Float[Tensor, "ratios seeds modules"]
    wide_change: Float[Tensor, "ratios seeds"]


def slope(x: Sequence[float], y: Float[Tensor, "points seeds"]) -> Float[Tensor, " seeds"]:
    """Slope of log y against log x, one per seed."""
    u = torch.tensor(x, dtype=torch.float64).log()
    u = u - u.mean()
    return (u[:, None] * y.log()).sum(0) / u.square().sum()


def frozen_escape(
    modules: Sequence[Module],
    correlation: Float[Tensor, "m2 m0"],
    multiplier: Float[Tensor, " runs"],
    level: float,
    *,
    step_size: float,
    growth: float = 0.02,
) -> Float[Tensor, " runs"]:
    """Step at which the leading direction of G V_K ... V_1 reaches `level` at the frozen saddle.

    dV_j/dt = Q_j F_j + F_j P_j with P, Q as at the start and F_j = G (V_K...V_{j+1})' C
    (V_{j-1}...V_1)', C the correlation that is left to learn; midpoint rule with steps in which no
    V_j grows by more than the share `growth`. Where the flow grows at rate a, gradient descent
    grows at log(1 + eta a)/eta, as in Part I. Nothing is fitted.
    """
    u, _, v = torch.linalg.svd(correlation)
    scale = multiplier[:, None, None]

    def speed(vs: list[Tensor]) -> list[Tensor]:
        back = scale * correlation
        below: list[Tensor | None] = [None]
        for w in vs[:-1]:
            below.append(w if below[-1] is None else w @ below[-1])
        found = []
        for w, under, module in zip(reversed(vs), reversed(below), reversed(modules), strict=True):
            f = back if under is None else back @ under.mT
            found.append(module.q @ f + f @ module.p)
            back = w.mT @ back
        return found[::-1]

    def height(vs: list[Tensor]) -> Tensor:
        along = v[0][:, None]
        for w in vs:
            along = w @ along
        return multiplier * (u[:, 0] @ along)[:, 0]

    state = [m.v for m in modules]
    steps = torch.zeros_like(multiplier)
    reached = torch.zeros_like(multiplier, dtype=torch.bool)
    for _ in range(round(60 / growth)):
        d = speed(state)
        norm = torch.linalg.matrix_norm
        rate = torch.stack([norm(g) / norm(w) for g, w in zip(d, state, strict=True)]).amax(0)
        dt = torch.where(reached, 0.0, growth / rate)
        half = [w + 0.5 * dt[:, None, None] * g for w, g in zip(state, d, strict=True)]
        state = [w + dt[:, None, None] * g for w, g in zip(state, speed(half), strict=True)]
        steps = steps + dt * rate / torch.log1p(step_size * rate)
        reached = reached | (height(state) >= level)
        if bool(reached.all()):
            return steps
    raise ValueError(f"level = {level}: not reached by the frozen flow; is the correlation zero?")


@dataclass(frozen=True)
class Start:
    """The start of a `LinearPlateau`'s nets, one run per ratio and seed, ratios outermost.

    sizes, draws : arguments of `draw_cores`. multiplier : G. left, right : leading pair of
    Sigma_yx. level : half of what the best map has along it.
    """

    problem: Problem
    sizes: tuple[int, int, int, int]
    draws: dict[str, Any]
    multiplier: Float[Tensor, " runs"]
    left: Tensor
    right: Tensor
    level: float

    def height(self, maps: Tensor) -> Tensor:
        """How far maps (..., m2, m0) have learned the leading pair."""
        return torch.einsum("o,...oi,i->...", self.left, maps, self.right)


def linear_start(config: LinearPlateau) -> Start:
    """What all runs of a `LinearPlateau` start from."""
    problem = linear_teacher(
        generator=generator("spectral-plateau"),
        input_spectrum=(2.0, 1.2, 0.8, 0.5),
        target_spectrum=(3.0, 1.5, 0.6),
        output_dim=3,
        samples=12,
    )
    moments = problem.moments()
    outputs, inputs = moments.yx.shape
    m, k = config.bottleneck, config.modules
    draws: dict[str, Any] = {"wide": [], "init_std": [], "seeds": []}
    multipliers = []
    for ratio in config.ratios:
        n = ratio * m
        p = scheme(config.scheme)((inputs, *[n, m] * (k - 1), n, outputs), 1.0)
        draws["wide"] += [n] * config.seeds
        draws["init_std"] += [p.init_stds[0]] * config.seeds
        draws["seeds"] += range(config.seeds)
        multipliers += [math.prod(p.multipliers)] * config.seeds
    g = torch.tensor(multipliers, dtype=torch.float64)
    u, _, v = torch.linalg.svd(moments.yx)
    best = moments.yx @ torch.linalg.inv(moments.xx)
    level = 0.5 * float(u[:, 0] @ best @ v[0])
    return Start(problem, (inputs, m, outputs, k), draws, g, u[:, 0], v[0], level)


def linear_plateaus(config: LinearPlateau = LinearPlateau()) -> Plateaus:
    """Train at every ratio, measure the escape and predict it."""
    start = linear_start(config)
    modules, moments = draw_modules(*start.sizes, **start.draws), start.problem.moments()
    g, level, step_size = start.multiplier, start.level, config.step_size
    predicted = frozen_escape(modules, moments.yx, g, level, step_size=step_size)
    course = train_modules(
        modules,
        moments,
        multiplier=g,
        step_size=step_size,
        steps=config.most_steps,
        time_power=config.time_power,
        stop=lambda f: start.height(f) >= level,
    )
    crossed = crossing(config, start, course.maps, course.steps)
    left, spectrum, right = torch.linalg.svd(g[:, None, None] * chain(course.final))
    spectra = [torch.linalg.svdvals(x.v) for x in course.final]
    ranks = torch.stack([(z / z[:, :1]).square().sum(-1) for z in spectra], -1)
    change = torch.linalg.matrix_norm(course.final[0].q - modules[0].q, 2)
    change = change / torch.linalg.matrix_norm(modules[0].q, 2)
    overlap = ((left[:, :, 0] @ start.left) * (right[:, 0] @ start.right)).abs()
    shape = (len(config.ratios), config.seeds)
    return Plateaus(
        config,
        crossed.reshape(shape),
        predicted.reshape(shape),
        overlap.reshape(shape),
        (spectrum[:, 1] / spectrum[:, 0]).reshape(shape),
        ranks.reshape(*shape, -1),
        change.reshape(shape),
    )


def crossing(config: LinearPlateau, start: Start, maps: Tensor, steps: Tensor) -> Tensor:
    """Steps, between records, at which the runs have half learned the leading pair."""
    height = start.height(maps)
    marks = torch.full((len(height), 1), -start.level, dtype=torch.float64)
    crossed = crossing_steps(-height, marks, steps)[:, 0]
    if bool(crossed.isnan().any()):
        raise ValueError(f"most_steps = {config.most_steps}: too few for the longest plateau")
    return crossed


@dataclass(frozen=True)
class ReluPlateau:
    """The thesis's pattern n, 16, n, 16, n with ReLU, on ten classes of digits."""

    scheme: str = "spectral"
    wide: tuple[int, ...] = (128, 512, 2048)
    seeds: int = 4
    samples: int = 60
    step_size: float = 0.5
    most_steps: int = 600
    level: float = 0.75


@dataclass(frozen=True)
class ReluPlateaus:
    """steps : (widths, seeds), first step with less than `level` of the loss of f = 0.
    losses : seed 0, per width (records,), every step until then."""

    config: ReluPlateau
    steps: Float[Tensor, "widths seeds"]
    losses: list[Tensor]


def relu_plateaus(config: ReluPlateau = ReluPlateau()) -> ReluPlateaus:
    """Train the ReLU net at every width until the loss has left its plateau."""
    steps, losses = [], []
    for n in config.wide:
        found = [
            digit_losses(
                *(config.scheme, n, seed, config.samples, torch.float32),
                step_size=config.step_size,
                steps=config.most_steps,
                stop=config.level,
            )
            for seed in range(config.seeds)
        ]
        if max(loss[-1] for loss in found) > config.level:
            raise ValueError(f"most_steps = {config.most_steps}: too few at n = {n}")
        steps.append([len(loss) - 1 for loss in found])
        losses.append(found[0])
    return ReluPlateaus(config, torch.tensor(steps).double(), losses)


def measure(*, quick: bool = False) -> Evidence:
    """`together/spectral-plateau-predicted`: length, direction and exponent of the plateau.

    measured: exponent of the length in n/m for K = 2, 3, 4 wide layers (linear nets, n/m >= 256 for
    K = 2, 3), mean over seeds. predicted: (K-2)/2. ratio: measured over predicted length at the
    largest n/m, mean. overlap: of the escaping map with the top pair of Sigma_yx, K = 3, median
    over seeds, at the smallest and largest n/m. second: sigma_2/sigma_1 there. wide: change of the
    wide layers' own weights at the escape, Spectral, then DP(1/2). rich: exponent of DP(1/2).
    relu: exponent of ReLU nets on digits, mean over seeds, and its standard error.
    """
    seeds = 4 if quick else 8
    runs = {
        2: linear_plateaus(LinearPlateau(2, ratios=(16, 4096, 2**20), seeds=seeds)),
        3: linear_plateaus(LinearPlateau(3, ratios=(16, 256, 1024, 4096), seeds=seeds)),
        4: linear_plateaus(
            LinearPlateau(4, ratios=(16, 64, 256), seeds=seeds, step_size=0.04, most_steps=20000)
        ),
    }
    rich = linear_plateaus(LinearPlateau(3, "dp(1/2)", ratios=(16, 256, 4096), seeds=seeds))
    relu = relu_plateaus(
        ReluPlateau(wide=(128, 256, 512), seeds=3) if quick else ReluPlateau(seeds=8)
    )
    exponents = slope(relu.config.wide, relu.steps)
    last = {k: slope(r.config.ratios[1:], r.measured[1:]) for k, r in runs.items() if k < 4}
    last[4] = slope(runs[4].config.ratios, runs[4].measured)
    deep = runs[3]
    return Evidence(
        measured=[float(last[k].mean()) for k in (2, 3, 4)],
        predicted=[0.0, 0.5, 1.0],
        tolerance=[0.1, 0.05, 0.05],
        seeds=list(range(seeds)),
        details={
            "ratio": [float((r.measured / r.predicted)[-1].mean()) for r in runs.values()],
            "overlap": [float(deep.overlap[i].median()) for i in (0, -1)],
            "second": [float(deep.second[i].median()) for i in (0, -1)],
            "wide": [float(r.wide_change[-1].mean()) for r in (deep, rich)],
            "rich": float(slope(rich.config.ratios, rich.measured).mean()),
            "relu": [float(exponents.mean()), float(exponents.std() / len(exponents) ** 0.5)],
        },
    )
