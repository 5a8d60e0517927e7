"""Alignment and stages for losses other than the plain square, linear net, generic inputs."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from paper.claims import Evidence
from paper.fits import fit_slope
from learning_dynamics.losses import Loss, cross_entropy, huber, logistic, squared
from learning_dynamics.problems import Problem, linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.theory.alignment import correlation, modes_at_escape
from learning_dynamics.saddles.theory.stages import find_drops
from learning_dynamics.saddles.theory.staircase import recursion
from learning_dynamics.saddles.two_layer import gradient_descent, initialise, uniform_grid

__all__ = ["CASES", "AnyLoss", "Config", "evidence", "run"]


def _one_hot(targets: Tensor) -> Tensor:
    classes = torch.nn.functional.one_hot(targets.argmax(-2), targets.shape[-2])
    return classes.mT.to(targets.dtype).contiguous()


def _weights(samples: int) -> Tensor:
    g = generator("any-loss", "weights")
    return 2 * torch.rand(4, samples, generator=g, dtype=torch.float64)


#: Name -> (loss for n samples, noise on the teacher's outputs, targets from noisy outputs).
#: The noise keeps the labels from being separable, so that finite minima exist.
CASES: dict[str, tuple[Callable[[int], Loss], float, Callable[[Tensor], Tensor]]] = {
    "Huber": (lambda n: huber(1.0), 0.3, lambda y: y),
    "logistic": (lambda n: logistic(), 2.0, torch.sign),
    "cross-entropy": (lambda n: cross_entropy(), 1.5, _one_hot),
    "weighted squares": (lambda n: squared(_weights(n)), 0.0, lambda y: y),
}


@dataclass(frozen=True)
class Config:
    """problems per loss; scales for the exponent; one scale and a length for the stages."""

    problems: int = 3
    samples: int = 60
    scales: tuple[float, ...] = (1e-8, 1e-10, 1e-12)
    relative_step: float = 0.2
    stage_scale: float = 1e-12
    stage_steps: int = 1600
    width: int = 10
    rank_threshold: float = 0.02


@dataclass(frozen=True)
class AnyLoss:
    """Results for one loss.

    measured, interval, predicted : (problem,), exponent of sigma_2/sigma_1 at the first escape.
    steps, losses : the runs at `stage_scale`, (records,) and (problem, records).
    modes         : (problem, records, 4), singular values of W2 W1.
    drops, theory : per problem, (k,), steps of the drops that raise the rank by one, and the
                    recursion's prediction from the rates measured on the plateaus before.
    ranks         : per problem, rank of W2 W1 on the plateaus found.
    """

    measured: Float[Tensor, " problem"]
    interval: Float[Tensor, " problem"]
    predicted: Float[Tensor, " problem"]
    steps: Int[Tensor, " record"]
    losses: Float[Tensor, "problem record"]
    modes: Float[Tensor, "problem record mode"]
    drops: list[Tensor]
    theory: list[Tensor]
    ranks: list[list[int]]


def make_problem(name: str, problems: int, samples: int) -> tuple[Problem, Loss]:
    """`problems` random data sets for the loss called `name`, stacked."""
    make, noise, label = CASES[name]
    inputs, targets = [], []
    for i in range(problems):
        g = generator("any-loss", i)
        base = linear_teacher(generator=g, samples=samples)
        extra = torch.randn(base.targets.shape, generator=g, dtype=torch.float64)
        inputs.append(base.inputs)
        targets.append(label(base.targets + noise * extra))
    return Problem(torch.stack(inputs), torch.stack(targets)), make(samples)


def run(name: str, config: Config | None = None) -> AnyLoss:
    """Exponent at the first escape, then the stages of longer runs, for one loss."""
    config = config or Config()
    problem, criterion = make_problem(name, config.problems, config.samples)
    flat = torch.zeros_like(problem.targets)
    start = correlation(problem.inputs, criterion.gradient(flat, problem.targets))
    s = torch.linalg.svdvals(start)
    eta = config.relative_step / s[:, 0]

    count, growth = len(config.scales), math.log1p(config.relative_step)
    repeated = Problem(
        problem.inputs.repeat_interleave(count, 0), problem.targets.repeat_interleave(count, 0)
    )
    scales = torch.tensor(config.scales, dtype=torch.float64)
    short = int(1.1 * math.log(1 / min(config.scales)) / growth)
    weights = initialise(
        (6, config.width, 4),
        scales.repeat(config.problems),
        [generator("any-loss", "w", i) for i in range(config.problems) for _ in scales],
    )
    track = gradient_descent(
        weights,
        repeated,
        step_size=eta.repeat_interleave(count),
        steps=short,
        loss=criterion,
        record_at=uniform_grid(short, 1),
        observables=("unit_singular_values",),
    )
    modes = modes_at_escape(track["unit_singular_values"], 1)
    ratios = (modes[:, 1] / modes[:, 0]).reshape(-1, count)
    slope, interval, _ = fit_slope(scales.log(), ratios.log())

    track = gradient_descent(
        initialise(
            (6, config.width, 4),
            config.stage_scale,
            [generator("any-loss", "w", i) for i in range(config.problems)],
        ),
        problem,
        step_size=eta,
        steps=config.stage_steps,
        loss=criterion,
        record_at=uniform_grid(config.stage_steps, 2),
        observables=("loss", "product", "product_singular_values"),
    )
    drops, theory, ranks = [], [], []
    for i in range(config.problems):
        found, rests = find_drops(track["loss"][i], track.steps)
        w = track["product"][i, rests]
        values = torch.linalg.svdvals(w)
        # The origin has rank 0; elsewhere modes below a fraction of the largest are asleep.
        rank = (values > config.rank_threshold * values[:, :1].clamp_min(0.1)).sum(-1).tolist()
        ranks.append(rank)
        known = next((k for k, r in enumerate(rank) if r != k), len(rank)) - 1
        x, y = problem.inputs[i], problem.targets[i]
        rates = torch.zeros(4, 4, dtype=torch.float64)
        for k in range(known):
            residual = correlation(x, criterion.gradient(w[k] @ x, y))
            rates[k, : 4 - k] = torch.linalg.svdvals(residual)[: 4 - k]
        times = recursion(rates, eta[i], spare=2)[0][:known]
        theory.append(times * math.log(1 / config.stage_scale) / eta[i])
        drops.append(track.steps[found[:known]].double())
    return AnyLoss(
        measured=slope,
        interval=interval,
        predicted=1 - torch.log1p(eta * s[:, 1]) / torch.log1p(eta * s[:, 0]),
        steps=track.steps,
        losses=track["loss"],
        modes=track["product_singular_values"],
        drops=drops,
        theory=theory,
        ranks=ranks,
    )


def evidence(quick: bool = False) -> Evidence:
    """For `saddles/any-loss`: exponents at the first escape; later drops against the recursion."""
    config = Config(problems=2) if quick else Config(problems=6)
    found = [run(name, config) for name in CASES]
    measured = torch.cat([f.measured for f in found])
    predicted = torch.cat([f.predicted for f in found])
    later = [(d[1:] / t[1:] - 1).abs() for f in found for d, t in zip(f.drops, f.theory, strict=True)]
    return Evidence(
        measured=[round(float(x), 6) for x in measured],
        predicted=[round(float(x), 6) for x in predicted],
        tolerance=0.015,
        seeds=list(range(config.problems)),
        details={
            "half_width_95": float(torch.cat([f.interval for f in found]).max()),
            "later_drop_errors": [round(float(e), 4) for e in torch.cat(later)],
            "later_drops_per_loss": [
                float(sum(len(d) - 1 for d in f.drops if len(d))) for f in found
            ],
        },
    )
