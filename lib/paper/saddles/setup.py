"""What small initialisation changes: the same data learned from small and large weights.

Two tasks with a rank-2 truth. *Regression* with noisy targets and more samples than inputs: the
minimiser of the training loss is unique, so only the path can differ, and a validation set stops
it. *Completion* of a noisy matrix seen at half its entries: minimisers abound, and the initial
scale chooses among them.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.losses import squared
from learning_dynamics.problems import Problem, linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.two_layer import gradient_descent, initialise, uniform_grid
from paper.claims import Evidence
from paper.fits import mean_interval
from paper.saddles.random_linear import stack_problems

__all__ = ["Completion", "Outcome", "Regression", "complete", "measure", "regress"]


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


@dataclass(frozen=True)
class Outcome:
    """What one initial scale gave, per seed.

    steps            : (records,) recorded steps.
    loss, test_error : (seeds, records); test error relative to the error of the zero map.
    chosen           : (seeds,) record at which training is stopped (validation, or the end).
    singular_values  : (seeds, modes) of W2 W1 at the chosen record.
    """

    steps: Tensor
    loss: Float[Tensor, "seeds records"]
    test_error: Float[Tensor, "seeds records"]
    chosen: Tensor
    singular_values: Float[Tensor, "seeds modes"]

    @property
    def chosen_error(self) -> Float[Tensor, " seeds"]:
        """The test error at the chosen record."""
        return self.test_error[torch.arange(len(self.chosen)), self.chosen]

    @property
    def effective_rank(self) -> Float[Tensor, " seeds"]:
        """Sum of singular values over the largest, at the chosen record."""
        return self.singular_values.sum(-1) / self.singular_values[:, 0]


def _noisy_teachers(config: Regression) -> tuple[Problem, Problem, Tensor, Tensor]:
    """Training and validation halves, teachers (seeds, m2, m0) and test covariances."""
    spectrum = tuple(np.geomspace(2.5, 0.25, config.inputs).tolist())
    full = [
        linear_teacher(
            generator=generator("small-scale/regression", s),
            input_spectrum=spectrum,
            target_spectrum=(3.0, 1.5),
            output_dim=config.outputs,
            samples=2 * config.samples,
            noise=config.noise,
        )
        for s in range(config.seeds)
    ]
    n = config.samples
    together, teacher = stack_problems(full)
    x, y = together.inputs, together.targets
    covariance = x @ x.mT / (2 * n)
    train = Problem(x[..., :n].contiguous(), y[..., :n].contiguous())
    held_out = Problem(x[..., n:].contiguous(), y[..., n:].contiguous())
    return train, held_out, teacher, covariance


def regress(init_scale: float, config: Regression = Regression()) -> Outcome:
    """Train on noisy regression from `init_scale`; stop at the best validation loss."""
    train, held_out, teacher, covariance = _noisy_teachers(config)
    weights = initialise(
        (config.inputs, config.units, config.outputs),
        init_scale,
        [generator("small-scale/start", s) for s in range(config.seeds)],
    )
    run = gradient_descent(
        weights,
        train,
        step_size=config.step_size,
        steps=config.steps,
        record_at=uniform_grid(config.steps, config.every),
        observables=("loss", "product"),
    )
    product = run["product"]  # (seeds, records, m2, m0)

    def error(maps: Tensor) -> Tensor:
        gap = maps - teacher[:, None]
        return ((gap @ covariance[:, None]) * gap).sum((-2, -1))

    residual = product @ held_out.inputs[:, None] - held_out.targets[:, None]
    chosen = residual.square().sum((-2, -1)).argmin(1)
    return Outcome(
        run.steps,
        run["loss"],
        error(product) / error(torch.zeros_like(product[:, :1])),
        chosen,
        torch.linalg.svdvals(product[torch.arange(config.seeds), chosen]),
    )


def complete(init_scale: float, config: Completion = Completion()) -> Outcome:
    """Train on matrix completion from `init_scale` to the last step."""
    m, streams = config.size, range(config.seeds)
    truth, seen, noise = [], [], []
    for s in streams:
        g = generator("small-scale/completion", s)
        left, right = (torch.randn(m, 2, generator=g, dtype=torch.float64) for _ in range(2))
        truth.append(left @ right.mT / m**0.5)
        seen.append(torch.rand(m, m, generator=g, dtype=torch.float64) < config.observed)
        noise.append(config.noise * torch.randn(m, m, generator=g, dtype=torch.float64))
    target, mask = torch.stack(truth), torch.stack(seen).double()
    problem = Problem(
        torch.eye(m, dtype=torch.float64).expand(config.seeds, m, m).contiguous(),
        target + torch.stack(noise),
    )
    weights = initialise(
        (m, m, m), init_scale, [generator("small-scale/start", s) for s in streams]
    )
    run = gradient_descent(
        weights,
        problem,
        step_size=config.step_size,
        steps=config.steps,
        loss=squared(mask),
        record_at=uniform_grid(config.steps, config.every),
        observables=("loss", "product"),
    )
    product, hidden = run["product"], (1 - mask)[:, None]
    error = (hidden * (product - target[:, None]).square()).sum((-2, -1))
    error = error / (hidden * target[:, None].square()).sum((-2, -1))
    return Outcome(
        run.steps,
        run["loss"],
        error,
        torch.full((config.seeds,), len(run.steps) - 1),
        torch.linalg.svdvals(product[:, -1]),
    )


def measure(*, quick: bool = False) -> Evidence:
    """`saddles/small-scale-generalises`: log of the ratio of test errors, large over small scale.

    measured: mean of log(error from scale 0.3 / error from scale 1e-8), regression stopped by
    validation, then completion at the end; low and high: 95 % interval over seeds. final_gap:
    log-ratio of the regression's *final* errors, where the minimiser is unique.
    """
    regression = Regression(seeds=20 if quick else 24)
    completion = Completion(seeds=20 if quick else 24)
    means, lows, highs = [], [], []
    stopped = [regress(scale, regression) for scale in (1e-8, 0.3)]
    ended = [complete(scale, completion) for scale in (1e-8, 0.3)]
    for small, large in (stopped, ended):
        mean, low, high = mean_interval((large.chosen_error / small.chosen_error).log())
        means.append(mean)
        lows.append(low)
        highs.append(high)
    final_small, final_large = (o.test_error[:, -1] for o in stopped)
    final_gap = mean_interval((final_large / final_small).log())[0]
    return Evidence(
        measured=means,
        predicted=0.0,
        tolerance=0.0,
        seeds=list(range(regression.seeds)),
        details={"low": lows, "high": highs, "final_gap": final_gap},
    )
