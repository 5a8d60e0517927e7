"""Alignment and stages for losses other than the plain square, linear net, generic inputs."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Generator, Tensor

from learning_dynamics.losses import Loss, cross_entropy, huber, logistic, squared
from learning_dynamics.problems import Problem, linear_teacher
from learning_dynamics.runtime import Trajectory, generator
from learning_dynamics.saddles.theory.alignment import correlation
from learning_dynamics.saddles.theory.stages import find_drops
from learning_dynamics.saddles.theory.staircase import recursion
from learning_dynamics.saddles.two_layer import gradient_descent, initialise, uniform_grid
from paper.fits import fit_slope
from paper.saddles.plateau.alignment import ratio

__all__ = ["CASES", "Config", "run"]

RANK, SAMPLES = 4, 60  # m2, the rank of the task, and n; m0 = 6


def one_hot(targets: Tensor) -> Tensor:
    """The class of each column, its largest entry, as a column of zeros and a one."""
    classes = torch.nn.functional.one_hot(targets.argmax(-2), targets.shape[-2])
    return classes.mT.to(targets.dtype).contiguous()


def _weighted(y: Tensor, g: Generator) -> Loss:
    return squared(2 * torch.rand(y.shape, generator=g, dtype=torch.float64))


#: Name -> (loss of targets and a generator, noise on the teacher's outputs, targets from these).
#: The noise keeps the labels from being separable, so that finite minima exist.
CASES: dict[str, tuple[Callable[[Tensor, Generator], Loss], float, Callable[[Tensor], Tensor]]] = {
    "Huber": (lambda y, g: huber(1.0), 0.3, lambda y: y),
    "logistic": (lambda y, g: logistic(), 2.0, torch.sign),
    "cross-entropy": (lambda y, g: cross_entropy(), 1.5, one_hot),
    "weighted squares": (_weighted, 0.0, lambda y: y),
}


@dataclass(frozen=True)
class Config:
    """problems per loss; scales for the exponent; one scale and a length for the stages."""

    problems: int = 6
    scales: tuple[float, ...] = (1e-8, 1e-10, 1e-12)
    relative_step: float = 0.2
    stage_scale: float = 1e-12
    stage_steps: int = 1600

    def quick(self) -> "Config":
        return replace(self, problems=2)


def make_problem(name: str, problems: int) -> tuple[Problem, Loss]:
    """`problems` random data sets for the loss called `name`, stacked."""
    make, noise, label = CASES[name]
    data = []
    for i in range(problems):
        g = generator("any-loss", i)
        base = linear_teacher(generator=g, samples=SAMPLES)
        extra = torch.randn(base.targets.shape, generator=g, dtype=torch.float64)
        data.append((base.inputs, label(base.targets + noise * extra)))
    criterion = make(data[0][1], generator("any-loss", "weights"))
    return Problem(*map(torch.stack, zip(*data, strict=True))), criterion


def find_stages(
    x: Float[Tensor, "m0 n"],
    y: Float[Tensor, "m2 n"],
    criterion: Loss,
    w: Float[Tensor, "plateau m2 m0"],
    step_size: Tensor,
) -> Float[Tensor, " stage"]:
    """Times of the drops, in log(1/epsilon) steps, from the rates on the plateaus W before them,
    as long as each plateau has one rank more than the one before."""
    values = torch.linalg.svdvals(w)
    # The origin has rank 0; elsewhere modes below a fraction of the largest are dormant.
    rank = (values > 0.02 * values[:, :1].clamp_min(0.1)).sum(-1).tolist()
    known = next((k for k, r in enumerate(rank) if r != k), len(rank)) - 1
    rates = torch.zeros(RANK, RANK, dtype=torch.float64)
    for k in range(known):
        residual = correlation(x, criterion.gradient(w[k] @ x, y))
        rates[k, : RANK - k] = torch.linalg.svdvals(residual)[: RANK - k]
    return recursion(rates, step_size, spare=2)[0][:known] / step_size


def _one_loss(name: str, config: Config) -> xr.Dataset:
    problem, criterion = make_problem(name, config.problems)
    origin = criterion.gradient(torch.zeros_like(problem.targets), problem.targets)
    rates = torch.zeros(config.problems, RANK, RANK, dtype=torch.float64)
    rates[:, 0] = torch.linalg.svdvals(correlation(problem.inputs, origin))
    eta = config.relative_step / rates[:, 0, 0]
    problems = range(config.problems)

    def descend(scales: tuple[float, ...], steps: int, every: int, *observables: str) -> Trajectory:
        copies = len(scales)
        seeds = [generator("any-loss", "w", i) for i in problems for _ in scales]
        start = initialise((6, 10, RANK), torch.tensor(scales * config.problems).double(), seeds)
        data = (t.repeat_interleave(copies, 0) for t in (problem.inputs, problem.targets))
        return gradient_descent(
            start,
            Problem(*data),
            step_size=eta.repeat_interleave(copies),
            steps=steps,
            loss=criterion,
            record_at=uniform_grid(steps, every),
            observables=observables,
        )

    short = int(1.1 * math.log(1 / min(config.scales)) / math.log1p(config.relative_step))
    modes = descend(config.scales, short, 1, "unit_singular_values")["unit_singular_values"]
    track = descend((config.stage_scale,), config.stage_steps, 2, "loss", "product")
    drops, theory = torch.full((2, config.problems, RANK), torch.nan, dtype=torch.float64)
    for i in problems:
        at, rests = find_drops(track["loss"][i], track.steps)
        data = problem.inputs[i], problem.targets[i]
        times = find_stages(*data, criterion, track["product"][i, rests], eta[i])
        theory[i, : len(times)] = times * math.log(1 / config.stage_scale)
        drops[i, : len(times)] = track.steps[at[: len(times)]].double()
    variables = {
        "ratio": (("problem", "scale"), ratio(modes, 1).reshape(config.problems, -1)),
        "predicted": ("problem", recursion(rates, eta, spare=2)[1][:, 0]),
        "drops": (("problem", "stage"), drops),
        "theory": (("problem", "stage"), theory),
        "curve": (("problem", "step"), track["loss"]),
    }
    coords = {"problem": problems, "scale": list(config.scales), "step": track.steps}
    return xr.Dataset(variables, coords)


def run(config: Config = Config()) -> xr.Dataset:
    """Exponent at the first escape, then the stages of longer runs, for every loss.

    ratio (loss, problem, scale) : sigma_2(S)/sigma_1(S) at the first escape; measured,
    half_width, predicted (loss, problem) : its power of epsilon.
    curve (loss, problem, step) : the runs at `stage_scale`.
    drops, theory (loss, problem, stage) : steps of the drops while each raises the rank by one,
    and the recursion's, from the rates measured on the plateaus before; NaN after the last.
    """
    result = xr.concat([_one_loss(name, config) for name in CASES], "loss")
    power = fit_slope(np.log(result.scale), np.log(result.ratio))
    result = result.assign(measured=power.slope, half_width=power.half_width)
    return result.assign_coords(loss=list(CASES))
