"""Gradient descent with finite step on f(X) = W2 sigma(W1 X), for many runs at once.

The leading dimension of every tensor is the run: runs may differ in seed, initial scale,
step size and problem, and share their shapes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from learning_dynamics.activations import Activation, activation as find_activation
from learning_dynamics.losses import Loss, loss as find_loss
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import (
    Trajectory,
    check_choice,
    check_finite,
    check_integer,
    check_positive,
    check_shape,
)

__all__ = [
    "OBSERVABLES",
    "State",
    "Stop",
    "Weights",
    "forward",
    "gradient",
    "gradient_descent",
    "initialise",
    "uniform_grid",
    "geometric_grid",
]


class Weights(NamedTuple):
    """W1 (*runs, m1, m0) and W2 (*runs, m2, m1)."""

    w1: Float[Tensor, "*runs m1 m0"]
    w2: Float[Tensor, "*runs m2 m1"]

    @property
    def units(self) -> Float[Tensor, "*runs m1 coordinate"]:
        """S = [W1, W2'], whose row i is unit i: row i of W1, column i of W2."""
        return torch.cat([self.w1, self.w2.mT], dim=-1)

    @property
    def product(self) -> Float[Tensor, "*runs m2 m0"]:
        """W2 W1, the end-to-end map of a linear net."""
        return self.w2 @ self.w1


class State(NamedTuple):
    """What an observable may look at; all of one step, before that step's update."""

    weights: Weights
    outputs: Float[Tensor, "runs m2 n"]
    gradients: Weights
    loss: Float[Tensor, " runs"]


class Stop(NamedTuple):
    """Stop a run once its loss or the norm of its gradient (w1 and w2) is at most this."""

    loss: float | None = None
    gradient_norm: float | None = None


def initialise(
    widths: tuple[int, int, int],
    init_scale: float | Float[Tensor, " runs"],
    generators: Sequence[torch.Generator],
    *,
    dtype: torch.dtype = torch.float64,
) -> Weights:
    """i.i.d. Gaussian weights of standard deviation epsilon = `init_scale`.

    widths     : (m0, m1, m2).
    init_scale : > 0, one for all runs or one per run.
    generators : one per run (see `runtime.generator`); their device is the weights' device.
    Equal generators give equal directions, so that runs can differ in scale alone.
    """
    m0, m1, m2 = widths
    for name, value in zip(("m0", "m1", "m2"), widths, strict=True):
        check_integer(name, value, least=1)
    check_positive("init_scale", init_scale)
    if not generators:
        raise ValueError("generators is empty: pass one generator per run")
    draws = [
        torch.randn(m1, m0 + m2, generator=g, dtype=dtype, device=g.device) for g in generators
    ]
    units = torch.stack(draws)
    units = units * torch.as_tensor(init_scale, dtype=dtype, device=units.device).reshape(-1, 1, 1)
    return Weights(units[..., :m0].contiguous(), units[..., m0:].mT.contiguous())


def forward(
    weights: Weights, inputs: Float[Tensor, "... m0 n"], activation: str | Activation = "linear"
) -> Float[Tensor, "... m2 n"]:
    """f(X) = W2 sigma(W1 X)."""
    return weights.w2 @ find_activation(activation)(weights.w1 @ inputs)


def gradient(
    weights: Weights,
    problem: Problem,
    *,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
) -> State:
    """The gradient of L, with what was computed on the way.

    With Z = W1 X and G = dL/df (m2, n):
        dL/dW2 = G sigma(Z)',    dL/dW1 = (sigma'(Z) * W2' G) X'.
    """
    act, criterion = find_activation(activation), find_loss(loss)
    z = weights.w1 @ problem.inputs
    h = act(z)
    outputs = weights.w2 @ h
    g = criterion.gradient(outputs, problem.targets)
    d2 = g @ h.mT
    d1 = (act.derivative(z) * (weights.w2.mT @ g)) @ problem.inputs.mT
    return State(weights, outputs, Weights(d1, d2), criterion.value(outputs, problem.targets))


def _gradient_norm(s: State) -> Tensor:
    return (
        s.gradients.w1.square().sum((-2, -1)) + s.gradients.w2.square().sum((-2, -1))
    ).sqrt()


#: Named observables: what can be recorded, with the names of their trailing dimensions.
OBSERVABLES: Mapping[str, tuple[Callable[[State], Tensor], tuple[str, ...], str]] = {
    "loss": (lambda s: s.loss, (), "loss"),
    "gradient_norm": (_gradient_norm, (), "loss/weight"),
    "w1": (lambda s: s.weights.w1, ("unit", "input"), "1"),
    "w2": (lambda s: s.weights.w2, ("output", "unit"), "1"),
    "units": (lambda s: s.weights.units, ("unit", "coordinate"), "1"),
    "unit_norms": (lambda s: s.weights.units.norm(dim=-1), ("unit",), "1"),
    "unit_singular_values": (
        lambda s: torch.linalg.svdvals(s.weights.units),
        ("mode",),
        "1",
    ),
    "product": (lambda s: s.weights.product, ("output", "input"), "1"),
    "product_singular_values": (
        lambda s: torch.linalg.svdvals(s.weights.product),
        ("mode",),
        "1",
    ),
}


@dataclass(frozen=True)
class _Recorder:
    names: tuple[str, ...]

    def __call__(self, state: State) -> dict[str, Tensor]:
        return {n: OBSERVABLES[n][0](state) for n in self.names}


def uniform_grid(steps: int, every: int) -> Int[Tensor, " records"]:
    """Steps 0, every, 2 every, ..., and the last step."""
    check_integer("steps", steps, least=0)
    check_integer("every", every, least=1)
    return torch.unique(torch.cat([torch.arange(0, steps + 1, every), torch.tensor([steps])]))


def geometric_grid(steps: int, records: int) -> Int[Tensor, " records"]:
    """About `records` distinct steps from 0 to `steps`, evenly spaced in the logarithm."""
    check_integer("steps", steps, least=1)
    check_integer("records", records, least=2)
    grid = torch.logspace(0, torch.tensor(float(steps)).log10(), records - 1, dtype=torch.float64)
    return torch.unique(torch.cat([torch.tensor([0, steps]), grid.round().long()]))


def gradient_descent(
    weights: Weights,
    problem: Problem,
    *,
    step_size: float | Float[Tensor, " runs"],
    steps: int,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    record_at: Int[Tensor, " records"] | None = None,
    observables: Sequence[str] = ("loss",),
    stop: Stop | None = None,
    on_divergence: str = "raise",
    progress: Callable[[int, int], None] | None = None,
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
    on_divergence : "raise" a ValueError that names run, step and step size, or "mark" the run
                in `diverged_at` and record NaN.
    progress  : called as progress(step, steps) at every recorded step.
    """
    act, criterion = find_activation(activation), find_loss(loss)
    check_finite("w1", weights.w1)
    check_finite("w2", weights.w2)
    check_shape("w1", weights.w1, (None, None, problem.inputs.shape[-2]))
    runs, m1, _ = weights.w1.shape
    check_shape("w2", weights.w2, (runs, problem.targets.shape[-2], m1))
    check_positive("step_size", step_size)
    check_integer("steps", steps)
    check_choice("on_divergence", on_divergence, ("raise", "mark"))
    for name in observables:
        check_choice("observable", name, OBSERVABLES)
    if record_at is None:
        record_at = uniform_grid(steps, max(1, steps // 1000))
    grid = record_at.tolist()
    if not grid or grid != sorted(set(grid)) or grid[0] < 0 or grid[-1] > steps:
        raise ValueError(f"record_at must increase strictly within 0..{steps}")

    eta = torch.as_tensor(step_size, dtype=weights.w1.dtype, device=weights.w1.device)
    if eta.ndim:
        check_shape("step_size", eta, (runs,))
    eta = eta.reshape(-1, 1, 1)
    record = _Recorder(tuple(observables))
    history: list[dict[str, Tensor]] = []
    w = weights
    nothing = torch.full((runs,), -1, dtype=torch.long, device=w.w1.device)
    diverged_at, stopped_at = nothing, nothing.clone()
    wanted = set(grid)
    for t in range(steps + 1):
        state = gradient(w, problem, activation=act, loss=criterion)
        bad = (diverged_at < 0) & ~torch.isfinite(state.loss)
        diverged_at = torch.where(bad, t, diverged_at)
        if t in wanted:
            history.append(record(state))
            if stop is not None:
                met = torch.zeros(runs, dtype=torch.bool, device=w.w1.device)
                if stop.loss is not None:
                    met = met | (state.loss <= stop.loss)
                if stop.gradient_norm is not None:
                    met = met | (_gradient_norm(state) <= stop.gradient_norm)
                stopped_at = torch.where((stopped_at < 0) & met, t, stopped_at)
            if progress is not None:
                progress(t, steps)
        if t == steps:
            break
        move = (stopped_at < 0).reshape(-1, 1, 1) * eta
        w = Weights(w.w1 - move * state.gradients.w1, w.w2 - move * state.gradients.w2)
    if on_divergence == "raise" and bool((diverged_at >= 0).any()):
        run = int((diverged_at >= 0).nonzero()[0])
        raise ValueError(
            f"run {run} diverged at step {int(diverged_at[run])} with step_size = "
            f"{float(eta.reshape(-1).expand(runs)[run]):g}: take a smaller step"
        )
    return Trajectory(
        steps=torch.tensor(grid),
        step_size=step_size,
        observables={
            n: torch.stack([h[n] for h in history], dim=1) for n in record.names
        },
        dims={n: OBSERVABLES[n][1] for n in record.names},
        diverged_at=diverged_at,
        stopped_at=stopped_at,
        final=w,
        units={n: OBSERVABLES[n][2] for n in record.names},
    )
