"""What small initialisation changes: the same data learned from small and large weights.

Two tasks with a rank-2 truth. *Regression* with noisy targets and more samples than inputs: the
minimiser of the training loss is unique, so only the path can differ, and a validation set stops
it. *Completion* of a noisy matrix seen at half its entries: minimisers abound, and the initial
scale chooses among them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from learning_dynamics.losses import squared
from learning_dynamics.problems import Problem, linear_teacher
from learning_dynamics.runtime import Trajectory, generator
from learning_dynamics.saddles.two_layer import gradient_descent, initialise, uniform_grid
from paper.claims import Evidence
from paper.fits import mean_interval
from paper.saddles.random_linear import stack_problems

__all__ = ["Completion", "Regression", "complete", "measure", "regress"]


@dataclass(frozen=True)
class Regression:
    """Noisy linear regression, rank-2 teacher, anisotropic inputs (eigenvalues 2.5 to 0.25)."""

    seeds: int = 24
    inputs: int = 20
    outputs: int = 10
    units: int = 20
    samples: int = 40
    noise: float = 0.5
    step_size: float = 0.03
    steps: int = 3000
    every: int = 10


@dataclass(frozen=True)
class Completion:
    """A noisy rank-2 matrix, each entry seen with probability `observed`."""

    seeds: int = 24
    size: int = 20
    observed: float = 0.5
    noise: float = 0.02
    step_size: float = 2.0
    steps: int = 4000
    every: int = 20


def _outcome(run: Trajectory, error: Tensor, chosen: Tensor | None = None) -> xr.Dataset:
    """loss, test_error (seed, step), the latter relative to that of the zero map; and at the step
    where training is stopped (`chosen`, by validation; else the end), (seed): chosen_error,
    effective_rank, the sum of singular values over the largest."""
    rows = torch.arange(len(error))
    at = torch.full_like(rows, -1) if chosen is None else chosen
    values = torch.linalg.svdvals(run["product"][rows, at])
    return xr.Dataset(
        {
            "loss": (("seed", "step"), run["loss"]),
            "test_error": (("seed", "step"), error),
            "chosen": ("seed", run.steps[at]),
            "chosen_error": ("seed", error[rows, at]),
            "effective_rank": ("seed", values.sum(-1) / values[:, 0]),
        },
        {"step": run.steps},
    )


def _train(
    config: Regression | Completion, sizes: tuple[int, int, int], init_scale: float, **task: Any
) -> Trajectory:
    starts = [generator("small-scale/start", s) for s in range(config.seeds)]
    return gradient_descent(
        initialise(sizes, init_scale, starts),
        step_size=config.step_size,
        steps=config.steps,
        record_at=uniform_grid(config.steps, config.every),
        observables=("loss", "product"),
        **task,
    )


def regress(init_scale: float, config: Regression = Regression()) -> xr.Dataset:
    """Train on noisy regression from `init_scale`; stop at the best validation loss."""
    n, spectrum = config.samples, np.geomspace(2.5, 0.25, config.inputs)
    full = [
        linear_teacher(
            generator=generator("small-scale/regression", s),
            input_spectrum=tuple(spectrum.tolist()),
            target_spectrum=(3.0, 1.5),
            output_dim=config.outputs,
            samples=2 * n,  # the second half for validation
            noise=config.noise,
        )
        for s in range(config.seeds)
    ]
    together, teacher = stack_problems(full)
    x, y = together.inputs, together.targets
    covariance = x @ x.mT / (2 * n)
    train = Problem(x[..., :n].contiguous(), y[..., :n].contiguous())
    sizes = config.inputs, config.units, config.outputs
    run = _train(config, sizes, init_scale, problem=train)
    product = run["product"]  # (seeds, records, m2, m0)

    def error(maps: Tensor) -> Tensor:
        gap = maps - teacher[:, None]
        return ((gap @ covariance[:, None]) * gap).sum((-2, -1))

    residual = product @ x[:, None, :, n:] - y[:, None, :, n:]
    relative = error(product) / error(torch.zeros_like(product[:, :1]))
    return _outcome(run, relative, residual.square().sum((-2, -1)).argmin(1))


def complete(init_scale: float, config: Completion = Completion()) -> xr.Dataset:
    """Train on matrix completion from `init_scale` to the last step."""
    m = config.size
    truth, seen, noise = [], [], []
    for s in range(config.seeds):
        g = generator("small-scale/completion", s)
        left, right = (torch.randn(m, 2, generator=g, dtype=torch.float64) for _ in range(2))
        truth.append(left @ right.mT / m**0.5)
        seen.append(torch.rand(m, m, generator=g, dtype=torch.float64) < config.observed)
        noise.append(config.noise * torch.randn(m, m, generator=g, dtype=torch.float64))
    target, mask = torch.stack(truth), torch.stack(seen).double()
    inputs = torch.eye(m, dtype=torch.float64).expand(config.seeds, m, m).contiguous()
    problem = Problem(inputs, target + torch.stack(noise))
    run = _train(config, (m, m, m), init_scale, problem=problem, loss=squared(mask))
    hidden = (1 - mask)[:, None]
    error = (hidden * (run["product"] - target[:, None]).square()).sum((-2, -1))
    return _outcome(run, error / (hidden * target[:, None].square()).sum((-2, -1)))


def measure(*, quick: bool = False) -> Evidence:
    """`saddles/small-scale-generalises`: log of the ratio of test errors, large over small scale.

    measured: mean of log(error from scale 0.3 / error from scale 1e-8), regression stopped by
    validation, then completion at the end; low and high: 95 % interval over seeds. final_gap:
    log-ratio of the regression's *final* errors, where the minimiser is unique.
    """
    seeds = 20 if quick else 24
    scales = (1e-8, 0.3)
    stopped = [regress(scale, Regression(seeds=seeds)) for scale in scales]
    ended = [complete(scale, Completion(seeds=seeds)) for scale in scales]
    gains = [
        mean_interval(np.log(large.chosen_error / small.chosen_error))
        for small, large in (stopped, ended)
    ]
    means, lows, highs = map(list, zip(*gains, strict=True))
    final = np.log(stopped[1].test_error[:, -1] / stopped[0].test_error[:, -1])
    return Evidence(
        measured=means,
        predicted=0.0,
        tolerance=0.0,
        seeds=list(range(seeds)),
        details={"low": lows, "high": highs, "final_gap": mean_interval(final)[0]},
    )
