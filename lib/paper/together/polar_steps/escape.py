"""Spectral's start under polar steps: no plateau, predicted in closed form.

A module is V = BA around a wide layer. In Spectral's gauge its Gram matrices P and Q start as
identities, up to sqrt(m/n), and polar steps of its two layers add -2 eta U, U the polar factor of
dL/dV, as long as V is small: as much as if V were one layer. So the V_j grow by 2 eta a step
whatever their size. As they grow, P and Q do: along an aligned pair of unit vectors,
P = Q = sqrt(1 + V^2), and V grows by 2 eta (1 + V^2)^(1/4).
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import xarray as xr
from scipy.integrate import quad

from learning_dynamics.saddles.linear_nets.bottleneck import (
    Module,
    draw_cores,
    draw_modules,
    train_modules,
)
from paper.claims import Evidence, claim
from paper.fits import fit_slope
from paper.together.polar_steps.descent import changes, descend, plain_muon
from paper.together.spectral_plateau.plateau import (
    LinearPlateau,
    crossing,
    linear_plateaus,
    linear_start,
)

__all__ = ["Config", "escape_time", "gradient_escapes", "no_plateau", "run", "step_limit"]


@dataclass(frozen=True)
class Config:
    """modules : K; ratios : n/m, of polar steps; seeds : draws at each; step_size : eta.

    gradient : K -> (ratios, step size) of the gradient descents beside them, whose plateaus grow.
    """

    modules: tuple[int, ...] = (2, 3, 4, 5)
    ratios: tuple[int, ...] = (2**4, 2**8, 2**12, 2**16, 2**20)
    seeds: int = 4
    step_size: float = 0.02
    gradient: tuple[tuple[int, tuple[int, ...], float], ...] = (
        (2, (16, 256, 4096), 0.08),
        (3, (16, 256, 4096), 0.08),
        (4, (16, 64, 256), 0.04),
    )
    rates: tuple[float, ...] = (1 / 128, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4)
    limit_steps: int = 240

    def quick(self) -> "Config":
        return replace(
            self,
            modules=self.modules[::2],
            ratios=self.ratios[::2],
            seeds=2,
            gradient=self.gradient[:2],
            limit_steps=200,
        )


def escape_time(level: float, modules: int, step_size: float) -> float:
    """Steps until G V^K reaches `level`/G = l^K: (1/2 eta) times the integral of (1+v^2)^(-1/4)
    from 0 to l. `level` is in units of G."""
    length = level ** (1 / modules)
    return quad(lambda v: (1 + v * v) ** -0.25, 0, length)[0] / (2 * step_size)


def _one(modules: int, config: Config) -> xr.Dataset:
    plateau = LinearPlateau(modules, ratios=config.ratios, seeds=config.seeds)
    start = linear_start(plateau)
    moments = start.problem.moments()
    runs, eta = len(start.multiplier), config.step_size
    predicted = escape_time(start.level / float(start.multiplier[0]), modules, eta)
    steps = math.ceil(1.5 * predicted)
    course = train_modules(
        draw_modules(*start.sizes, **start.draws),
        moments,
        multiplier=start.multiplier,
        step_size=eta,
        steps=steps,
        polar=torch.ones(runs, 2 * modules, dtype=torch.float64),
    )
    crossed = crossing(plateau, start, course.maps, course.steps)
    at, cores = crossed.round().long(), draw_cores(*start.sizes, **start.draws)
    budgets, moved = torch.empty(2, runs, 2 * modules, dtype=torch.float64)

    def look(step: int, weights: list[torch.Tensor], gradients: list[torch.Tensor]) -> None:
        if bool((here := at == step).any()):
            norms = [torch.linalg.matrix_norm(g[here], "nuc") for g in gradients]
            budgets[here] = torch.stack(norms, -1)
            moved[here] = changes([w[here] for w in weights], [w[here] for w in cores])

    loss, _ = descend(
        cores,
        [float(start.multiplier[0]) ** (1 / len(cores))] * len(cores),
        start.problem,
        plain_muon(),
        step_size=torch.full((runs,), eta, dtype=torch.float64),
        steps=steps,
        activation="linear",
        observe=look,
    )
    shares = budgets / budgets.sum(-1, keepdim=True)
    zero = float(moments.yy.diagonal().sum()) / 2
    early = torch.arange(steps + 1) <= crossed.min()
    gap = ((course.loss / zero - loss).abs() / loss)[:, early].amax(-1)
    shape = (len(config.ratios), config.seeds)
    layers = {"layer": range(2 * modules)}
    return xr.Dataset(
        {
            "steps": (("ratio", "seed"), crossed.reshape(shape)),
            "predicted": predicted,
            "share": (("ratio", "seed", "layer"), shares.reshape(*shape, -1)),
            "change": (("ratio", "seed", "layer"), moved.reshape(*shape, -1)),
            "gap": gap.max(),
        },
        {"ratio": list(config.ratios), "seed": range(config.seeds)} | layers,
    )


def run(config: Config = Config()) -> xr.Dataset:
    """Steps until half of the first direction is learned, under polar steps from Spectral's start.

    steps (modules, ratio, seed), predicted (modules): the closed form of `escape_time`.
    share, change (modules, ratio, seed, layer) : of each layer at that step: its part of the
    first-order decrease of the loss, eta |dL/dW_l|_*, and |W_l - W_l(0)|_2/|W_l(0)|_2.
    gap (modules) : largest relative difference of the losses of the module algebra and of the
    cores, up to there; they share no step of the computation but the root.
    """
    found = [_one(k, config) for k in config.modules]
    return xr.concat(found, "modules", join="outer").assign_coords(modules=list(config.modules))


def gradient_escapes(config: Config = Config()) -> xr.Dataset:
    """steps (modules, ratio, seed) of gradient descent, NaN where not run; power, its exponent in
    n/m, mean over seeds, over the two largest ratios."""
    found = []
    for modules, ratios, step_size in config.gradient:
        plateau = LinearPlateau(
            modules, ratios=ratios, seeds=config.seeds, step_size=step_size, most_steps=20_000
        )
        steps = xr.DataArray(linear_plateaus(plateau).measured.numpy(), dims=("ratio", "seed"))
        power = np.log(steps[-1] / steps[-2]).mean() / math.log(ratios[-1] / ratios[-2])
        steps = steps.assign_coords(ratio=list(ratios))
        found.append(xr.Dataset({"steps": steps, "power": power}))
    return xr.concat(found, "modules", join="outer").assign_coords(
        modules=[k for k, *_ in config.gradient]
    )


def step_limit(config: Config = Config()) -> xr.Dataset:
    """floor (ratio, rate) : where the loss ends, mean over the last quarter of `limit_steps` and
    over seeds, K = 3, in units of the loss of f = 0; power (ratio) : its exponent in eta over the
    three smallest rates."""
    ratios = (config.ratios[0], config.ratios[-1])
    start = linear_start(LinearPlateau(3, ratios=ratios, seeds=config.seeds))
    many, runs = len(config.rates), len(start.multiplier)
    modules = [
        Module(*(t.repeat_interleave(many, 0) for t in (x.v, x.p, x.q)))
        for x in draw_modules(*start.sizes, **start.draws)
    ]
    moments, last = start.problem.moments(), config.limit_steps
    course = train_modules(
        modules,
        moments,
        multiplier=start.multiplier.repeat_interleave(many),
        step_size=torch.tensor(config.rates, dtype=torch.float64).repeat(runs),
        steps=last,
        record_at=range(last - last // 4, last + 1),
        polar=torch.ones(runs * many, 6, dtype=torch.float64),
    )
    zero = moments.yy.diagonal().sum() / 2
    floor = (course.loss.mean(1) / zero).reshape(len(ratios), config.seeds, many).mean(1)
    result = xr.Dataset({"floor": (("ratio", "rate"), floor)}, {"ratio": list(ratios)})
    result = result.assign_coords(rate=list(config.rates))
    small = result.floor[:, :3]
    return result.assign(power=fit_slope(np.log(small.rate), np.log(small)).slope)


@claim("together/muon-no-plateau", Config, run, gradient_escapes, step_limit)
def no_plateau(result: xr.Dataset, gradient: xr.Dataset, limit: xr.Dataset) -> Evidence:
    """Exponents in n/m of the steps; the closed form at the largest n/m; layers' shares there."""
    steps = np.log(result.steps.mean("seed")).transpose("ratio", "modules")
    power = fit_slope(np.log(result.ratio.astype(float)), steps).slope
    last = result.isel(ratio=-1).mean("seed")
    shares = last.share * 2 * last.modules
    details = {
        "ratio": last.steps / last.predicted,
        "share": [shares.min(), shares.max()],
        "change": (last.change.mean("layer") / (Config().step_size * last.predicted)),
        "gap": result.gap,
        "gradient": gradient.power,
        "floor_power": limit.power,
        "floor": limit.floor.isel(rate=0).values,
    }
    return Evidence(power, 0.0, 0.1, result.seed, details)
