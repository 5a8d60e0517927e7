"""Gradient descent with finite step on f(X) = W2 sigma(W1 X), for many runs at once.

The leading dimension of every tensor is the run: runs may differ in seed, initial scale,
step size and problem, and share their shapes. The inner loops are in `kernels`, the handling of
the ensemble in `ensemble`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from learning_dynamics.activations import Activation
from learning_dynamics.activations import activation as find_activation
from learning_dynamics.kernels.ensemble import Ensemble, Observable
from learning_dynamics.kernels.graph import cuda_kernel
from learning_dynamics.kernels.native import native_kernel
from learning_dynamics.kernels.two_layer_torch import (
    Data,
    DenseKernel,
    Kernel,
    ProductKernel,
    Sizes,
)
from learning_dynamics.kernels.weights import State, Weights, forward, gradient, initialise
from learning_dynamics.losses import Loss, check_fits
from learning_dynamics.losses import loss as find_loss
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import (
    Trajectory,
    as_positive,
    check_choice,
    check_choices,
    check_instance,
    check_integer,
    check_positive,
    check_tensors,
)

__all__ = [
    "OBSERVABLES",
    "State",
    "Stop",
    "Weights",
    "choose_kernel",
    "forward",
    "geometric_grid",
    "gradient",
    "gradient_descent",
    "gradient_norm",
    "initialise",
    "uniform_grid",
]


def gradient_norm(s: State) -> Tensor:
    """The Euclidean norm of the gradient with respect to all weights, (runs,)."""
    return (s.gradients.w1.square().sum((-2, -1)) + s.gradients.w2.square().sum((-2, -1))).sqrt()


#: Named observables: what can be recorded, with the names of their trailing dimensions.
OBSERVABLES: Mapping[str, Observable] = {
    "loss": (lambda s: s.loss, (), "loss"),
    "gradient_norm": (gradient_norm, (), "loss/weight"),
    "w1": (lambda s: s.weights.w1, ("unit", "input"), "1"),
    "w2": (lambda s: s.weights.w2, ("output", "unit"), "1"),
    "units": (lambda s: s.weights.units, ("unit", "coordinate"), "1"),
    "unit_norms": (lambda s: s.weights.units.norm(dim=-1), ("unit",), "1"),
    "unit_singular_values": (lambda s: torch.linalg.svdvals(s.weights.units), ("mode",), "1"),
    "product": (lambda s: s.weights.product, ("output", "input"), "1"),
    "product_singular_values": (lambda s: torch.linalg.svdvals(s.weights.product), ("mode",), "1"),
}


def uniform_grid(steps: int, every: int) -> Int[Tensor, " records"]:
    """Steps 0, every, 2 every, ..., and the last step."""
    check_integer("steps", steps, least=0)
    check_integer("every", every, least=1)
    return torch.tensor(sorted({*range(0, steps + 1, every), steps}), device="cpu")


def geometric_grid(steps: int, records: int) -> Int[Tensor, " records"]:
    """About `records` distinct steps from 0 to `steps`, evenly spaced in the logarithm.

    >>> geometric_grid(1000, 4).tolist()
    [0, 1, 32, 1000]
    """
    check_integer("steps", steps, least=1)
    check_integer("records", records, least=2)
    end = torch.tensor(float(steps), device="cpu").log10()
    grid = torch.logspace(0, end, records - 1, dtype=torch.float64, device="cpu")
    return torch.tensor(sorted({0, steps, *grid.round().long().tolist()}), device="cpu")


class Stop(NamedTuple):
    """Stop a run once its loss or the norm of its gradient (w1 and w2) is at most this.

    >>> Stop(loss=1e-6)
    Stop(loss=1e-06, gradient_norm=None)
    """

    loss: float | None = None
    gradient_norm: float | None = None

    def check(self) -> None:
        """Raise ValueError for a level that no run can reach."""
        for name, level in self._asdict().items():
            if level is not None:
                check_positive(f"stop.{name}", level, zero=True)

    def met(self, state: State) -> Tensor:
        """Whether each run may stop, (runs,) bool."""
        met = torch.zeros_like(state.loss, dtype=torch.bool)
        if self.loss is not None:
            met = met | (state.loss <= self.loss)
        if self.gradient_norm is not None:
            met = met | (gradient_norm(state) <= self.gradient_norm)
        return met


def choose_kernel(
    act: Activation,
    sizes: Sizes,
    like: Tensor,
    runs: int = 1,
    steps: int = 0,
    backend: str = "torch",
    criterion: Loss | None = None,
) -> tuple[type[Kernel], str]:
    """The kernel for weights like these, and its backend.

    In C++ where `native_kernel` says so, on CUDA as `cuda_kernel` says; else through W2 W1 for
    linear nets unless m1 is tiny, by the five products for all others.
    """
    loss = criterion or find_loss("squared")
    if backend in ("auto", "native"):
        native = native_kernel(act, loss, sizes, like, runs, steps, backend)
        if native is not None:
            return native, "native"
    fewer = ProductKernel.flops(sizes) <= DenseKernel.flops(sizes)
    usual = ProductKernel if fewer and act.negative_slope == 1 else DenseKernel
    special = cuda_kernel(act, loss, sizes, like, runs, steps, usual, backend)
    return special or (usual, "torch")


def gradient_descent(
    weights: Weights,
    problem: Problem,
    *,
    step_size: float | Float[Tensor, " runs"],
    steps: int,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    record_at: Int[Tensor, " records"] | Sequence[int] | None = None,
    observables: Sequence[str] = ("loss",),
    stop: Stop | None = None,
    on_divergence: str = "raise",
    progress: Callable[[int, int], None] | None = None,
    backend: str = "auto",
) -> Trajectory:
    """Gradient descent W_l(t+1) = W_l(t) - eta dL/dW_l for an ensemble of runs.

    weights   : (runs, m1, m0) and (runs, m2, m1), the start; not modified.
    problem   : one for all runs, or one per run (leading dimension runs).
    step_size : eta > 0, one for all or one per run.
    steps     : number of updates, >= 0.
    record_at : increasing steps in 0..steps at which observables are recorded (state *before*
                that step's update; `steps` is the end). Default: about 1000 evenly spaced.
    observables : names from `OBSERVABLES`.
    stop      : freezes a run at the first recorded step where its condition holds.
    on_divergence : "raise" `runtime.Diverged`, which names run, step and step size, or "mark" the
                run in `diverged_at` and record NaN.
    progress  : called as progress(step, steps) at every recorded step.
    backend   : "torch" on any device; "native", C++ compiled for the shape (`kernels.native`:
                linear, ReLU and leaky ReLU nets on a CPU); on CUDA "triton" (`two_layer_triton`:
                small nets) or "graph", torch's calls replayed (`kernels.graph`); "auto", what is
                fastest. The result names the one that was taken; they agree up to rounding.

    >>> from learning_dynamics import generator, linear_teacher, saddles
    >>> problem = linear_teacher(generator=generator(0))
    >>> start = saddles.initialise((6, 10, 4), 1e-6, [generator(seed) for seed in range(3)])
    >>> run = saddles.gradient_descent(start, problem, step_size=0.05, steps=2000)
    >>> run["loss"].shape
    torch.Size([3, 1001])
    >>> bool((run["loss"][:, -1] < 0.01 * run["loss"][:, 0]).all())
    True
    """
    act, criterion = find_activation(activation), find_loss(loss)
    check_instance("weights", weights, Weights)
    check_tensors(
        w1=(weights.w1, "runs m1 m0"), w2=(weights.w2, "runs m2 m1"), problem=(problem, Problem)
    )
    x, y = problem.inputs, problem.targets
    runs, m1, _ = weights.w1.shape
    eta = as_positive("step_size", step_size, runs, weights.w1.dtype, weights.w1.device)
    check_integer("steps", steps)
    check_choice("on_divergence", on_divergence, ("raise", "mark"))
    check_choices("observables", observables, OBSERVABLES)
    check_choice("backend", backend, ("auto", "torch", "native", "triton", "graph"))
    grid = record_grid(record_at, steps)
    if stop is not None:
        check_instance("stop", stop, Stop)
        stop.check()
    if x.ndim == 3 and len(x) == 1:
        x, y = x[0], y[0]
    if x.ndim > 2 and tuple(x.shape[:-2]) != (runs,):
        raise ValueError(f"inputs: {len(x)} problems for {runs} runs: pass one, or one per run")
    check_fits(criterion, weights.w1.new_empty(runs, y.shape[-2], y.shape[-1]), y)
    sizes = (x.shape[-2], m1, y.shape[-2], x.shape[-1])
    kernel, taken = choose_kernel(act, sizes, weights.w1, runs, steps, backend, criterion)
    trajectory = Ensemble(
        kernel=kernel,
        sizes=sizes,
        act=act,
        loss=criterion,
        data=Data(x, x.mT.contiguous(), y),
        step_size=eta,
        steps=steps,
        grid=grid,
        observables={name: OBSERVABLES[name] for name in observables},
        gradients="gradient_norm" in observables or (stop and stop.gradient_norm) is not None,
        met=None if stop is None else stop.met,
        raising=on_divergence == "raise",
        progress=progress,
    ).run(weights)
    return replace(trajectory, step_size=step_size, backend=taken)


def record_grid(
    record_at: Tensor | Sequence[int] | None, steps: int, most: int = 1000
) -> list[int]:
    """The recorded steps as a list; default: about `most` evenly spaced. Raises ValueError."""
    if record_at is None:
        record_at = uniform_grid(steps, max(1, steps // most))
    grid = record_at.tolist() if isinstance(record_at, Tensor | np.ndarray) else [*record_at]
    for step in grid:
        check_integer("record_at", step)
    if not grid or grid != sorted(set(grid)) or grid[-1] > steps:
        raise ValueError(f"record_at = {grid}: must increase strictly within 0..{steps}")
    return grid
