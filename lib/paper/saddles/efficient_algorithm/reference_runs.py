"""Where gradient descent from two small scales rests, on random problems (`random_two_layer`).

This is what the algorithm without plateaus is held against, so nothing of the algorithm is used.
Losses are in units of the first one, L(0).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from learning_dynamics.problems import Problem, TwoLayerProblem, random_two_layer
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.two_layer import (
    Weights,
    choose_kernel,
    geometric_grid,
    gradient_descent,
    initialise,
)
from paper.sweep import Experiment

__all__ = ["Reference", "drawn", "reference", "reference_many", "start_of", "step_of"]

#: Sizes to which m0 and m2 are filled up with zeros, so that few shapes are compiled.
SIZES = (3, 6, 12)
#: Steps between looks at whether a run has ended.
LOOKS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
MOVED = 1e-3  # the end: the loss has fallen by less during the last nine tenths of the steps


@dataclass(frozen=True)
class Reference:
    """One problem of the prior. scales : epsilon, falling; steps : at most, per run."""

    seed: int
    scales: tuple[float, float] = (1e-8, 1e-14)
    steps: int = 30_000


def drawn(seed: int) -> TwoLayerProblem:
    """Problem number `seed` of the prior."""
    return random_two_layer(generator("random-two-layer", seed))


def start_of(task: TwoLayerProblem, seed: int, scale: float) -> Weights:
    """The start of one run, (1, m1, m0) and (1, m2, m1)."""
    sizes = (len(task.problem.inputs), task.width, len(task.problem.targets))
    return initialise(sizes, scale, [generator("random-two-layer/start", seed)])


def step_of(task: TwoLayerProblem) -> float:
    """eta = 0.4/s_1, s_1 the largest rate at the origin of a linear net (1 where s_1 = 0)."""
    g = task.loss.gradient(torch.zeros_like(task.problem.targets), task.problem.targets)
    rate = float(torch.linalg.matrix_norm(g @ task.problem.inputs.mT, 2))
    return 0.4 / rate if rate > 0 else 1.0


def _filled(t: Tensor, rows: int, columns: int, value: float = 0.0) -> Tensor:
    more = (0, columns - t.shape[-1], 0, rows - t.shape[-2])
    return torch.nn.functional.pad(t, more, value=value)


def _size(m: int) -> int:
    return next(s for s in SIZES if m <= s)


def _outputs(task: TwoLayerProblem) -> int:
    """m2 when filled up; labels are not, for zero is none."""
    m2 = len(task.problem.targets)
    return _size(m2) if task.loss.labels is None else m2


def _grid(most: int) -> Tensor:
    looks = torch.tensor([look for look in LOOKS if look < most])
    return torch.unique(torch.cat([geometric_grid(most, int(math.log(most) / 0.008)), looks]))


class _Batch:
    """Runs of several problems at once, filled up with zeros to one shape: zeros stay zeros."""

    def __init__(self, configs: Sequence[Reference]) -> None:
        self.tasks = [drawn(c.seed) for c in configs]
        shapes = [(*t.problem.inputs.shape, len(t.problem.targets), t.width) for t in self.tasks]
        m0, n, _, m1 = (max(column) for column in zip(*shapes, strict=True))
        m0, m2 = _size(m0), max(map(_outputs, self.tasks))
        self.n = n
        self.first: list[float] = []
        runs = [(c, t, e) for c, t in zip(configs, self.tasks, strict=True) for e in c.scales]
        starts = [start_of(t, c.seed, e) for c, t, e in runs]
        self.weights = Weights(
            torch.cat([_filled(s.w1, m1, m0) for s in starts]),
            torch.cat([_filled(s.w2, m2, m1) for s in starts]),
        )
        self.x = torch.stack([_filled(t.problem.inputs, m0, n) for _, t, _ in runs])
        label = 0.0 if self.tasks[0].loss.labels is None else 1.0  # of samples x = 0: f = 0
        self.y = torch.stack([_filled(t.problem.targets, m2, n, label) for _, t, _ in runs])
        # the mean is over n columns, some of them zeros, which cost l(0, 0) each
        self.more = torch.tensor([n / t.problem.inputs.shape[1] for _, t, _ in runs]).double()
        zero = torch.zeros(1, 1, dtype=torch.float64)
        empty = float(self.tasks[0].loss.value(zero, zero + label))
        self.idle = torch.tensor(
            [empty * (m2 - t.problem.targets.numel() / n) for _, t, _ in runs], dtype=torch.float64
        )
        outputs = torch.zeros_like(self.y)
        self.zero_loss = self.tasks[0].loss.value(outputs, self.y) - self.idle

    def descend(self, eta: Tensor, most: int) -> Iterator[tuple[list[int], Tensor]]:
        """(runs, losses at the steps of `_grid`), from look to look; runs that ended leave."""
        task, active = self.tasks[0], torch.arange(len(eta))
        weights, begin, last = self.weights, 0, torch.ones(len(eta), len(LOOKS) + 1).double()
        grid = _grid(most)
        for look, end in enumerate(e for e in LOOKS if e <= most):
            at = grid[(grid >= begin) & (grid <= end)]
            sizes = (self.x.shape[1], weights.w1.shape[1], self.y.shape[1], self.n)
            kernel = choose_kernel(task.activation, sizes, weights.w1, 10**6, 10**6, "auto")
            run = gradient_descent(
                weights,
                Problem(self.x[active], self.y[active]),
                step_size=(eta * self.more)[active],
                steps=end - begin,
                activation=task.activation,
                loss=task.loss,
                record_at=at - begin,
                on_divergence="mark",
                backend=kernel[1],
            )
            losses = (run["loss"] - self.idle[active, None]) / self.zero_loss[active, None]
            new = slice(min(begin, 1), None)  # the first record is the last of the piece before
            yield active.tolist(), losses[:, new]
            last[active, look + 1] = losses[:, -1].nan_to_num(0.0)
            before = last[active, max(look - 1, 0)] if look else torch.full((len(active),), 2.0)
            going = (before - last[active, look + 1] > MOVED) & (last[active, look + 1] > 1e-6)
            going = going & (run.diverged_at < 0) & ~(losses.diff(dim=1) > 1e-6).any(1)
            active, begin = active[going], end
            weights = Weights(run.final.w1[going], run.final.w2[going])
            if not len(active):
                return


def reference_many(configs: Sequence[Reference]) -> list[xr.Dataset]:
    """`reference` of several problems with the same activation and loss."""
    return _attempt(configs, 1.0)


def _attempt(configs: Sequence[Reference], share: float) -> list[xr.Dataset]:
    """At a share of the step size; those whose loss rises again at a quarter of it."""
    batch, most = _Batch(configs), max(c.steps for c in configs)
    eta = torch.tensor([share * step_of(t) for t in batch.tasks for _ in (0, 1)]).double()
    pieces: list[list[Tensor]] = [[] for _ in eta]
    for runs, losses in batch.descend(eta, most):
        for run, own in zip(runs, losses, strict=True):
            pieces[run].append(own)
    curves = [torch.cat(own) for own in pieces]
    results = [
        _result(curves[2 * k : 2 * k + 2], most, float(eta[2 * k])) for k in range(len(configs))
    ]
    again = [k for k, result in enumerate(results) if result.rises.any()]
    if again and share > 0.1:
        better = _attempt([configs[k] for k in again], share / 4)
        for k, result in zip(again, better, strict=True):
            results[k] = result
    return results


def _rises(losses: Tensor) -> bool:
    return not bool(torch.isfinite(losses).all() and (losses.diff() <= 1e-6).all())


def _result(curves: Sequence[Tensor], most: int, eta: float) -> xr.Dataset:
    grid = _grid(most)
    losses = np.full((2, len(grid)), np.nan, dtype=np.float32)
    for row, curve in zip(losses, curves, strict=True):
        row[: len(curve)] = curve
    rises = [_rises(curve) for curve in curves]
    return xr.Dataset(
        {"loss": (("scale", "step"), losses), "rises": ("scale", rises), "step_size": ((), eta)},
        coords={"step": grid.numpy()},
    )


def reference(config: Reference) -> xr.Dataset:
    """Gradient descent from both scales.

    loss (scale, step) : L/L(0), single precision, NaN after the run ended. rises (scale) : it rose
    or diverged at this step size and at a quarter and a sixteenth of it. step_size : eta.
    """
    return reference_many([config])[0]


def group(config: Reference) -> tuple[str, str, int, int, int]:
    """What problems of one batch share: activation and loss, and about the size."""
    task = drawn(config.seed)
    m0, n = task.problem.inputs.shape
    # the compiled kernels want few shapes, PyTorch's large batches of little filling
    compiled = task.activation.negative_slope is not None
    size = _size(m0) if compiled else (task.width * n).bit_length()
    m2 = _outputs(task) if compiled or task.loss.labels is not None else 0
    return task.activation.name, task.loss.name, size, m2, config.steps


EXPERIMENT = Experiment("skip-reference", reference, 1, reference_many, group, largest=12)
