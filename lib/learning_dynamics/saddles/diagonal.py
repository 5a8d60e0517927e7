"""The diagonal net f(X) = (u * v)' X: the second model of the ensemble kernel.

Its end-to-end map beta = u * v is a vector; gradient descent from small u, v switches coordinates
of beta on, and sometimes off, one at a time {cite:p}`pesme2023`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from learning_dynamics.activations import Activation
from learning_dynamics.activations import activation as find_activation
from learning_dynamics.contracts import checked
from learning_dynamics.kernels.ensemble import Ensemble
from learning_dynamics.kernels.two_layer_torch import Data, residual_
from learning_dynamics.kernels.weights import State
from learning_dynamics.losses import Loss, check_fits
from learning_dynamics.losses import loss as find_loss
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import (
    Trajectory,
    as_positive,
    check_choice,
    check_choices,
    check_finite,
    check_integer,
    check_shape,
)
from learning_dynamics.saddles.two_layer import Stop, record_grid

__all__ = ["DIAGONAL_OBSERVABLES", "DiagonalWeights", "diagonal_descent", "diagonal_gradient"]


class DiagonalWeights(NamedTuple):
    """u and v, both (runs, 1, m0): a net with one unit per input and one output."""

    u: Float[Tensor, "runs 1 m0"]
    v: Float[Tensor, "runs 1 m0"]

    @property
    def product(self) -> Float[Tensor, "runs 1 m0"]:
        """beta = u * v."""
        return self.u * self.v


@checked
def diagonal_gradient(
    weights: DiagonalWeights, problem: Problem, *, loss: str | Loss = "squared"
) -> State:
    """The gradient of L, with what was computed on the way; targets are (1, n).

    With c = G X' (G = dL/df): dL/du = c * v and dL/dv = c * u.
    """
    return _state(
        weights, Data(problem.inputs, problem.inputs.mT, problem.targets), find_loss(loss)
    )


def _state(weights: DiagonalWeights, data: Data, loss: Loss) -> State:
    outputs = weights.product @ data.inputs
    c = loss.gradient(outputs, data.targets) @ data.transposed
    slopes = DiagonalWeights(c * weights.v, c * weights.u)
    return State(weights, outputs, slopes, loss.value(outputs, data.targets))


def _gradient_norm(s: State) -> Tensor:
    return (s.gradients.u.square() + s.gradients.v.square()).sum((-2, -1)).sqrt()


#: Named observables of the diagonal net.
DIAGONAL_OBSERVABLES: Mapping[str, tuple[Callable[[State], Tensor], tuple[str, ...], str]] = {
    "loss": (lambda s: s.loss, (), "loss"),
    "gradient_norm": (_gradient_norm, (), "loss/weight"),
    "u": (lambda s: s.weights.u[:, 0], ("input",), "1"),
    "v": (lambda s: s.weights.v[:, 0], ("input",), "1"),
    "product": (lambda s: s.weights.product[:, 0], ("input",), "1"),
}


class DiagonalKernel:
    """u <- u - c * v, v <- v - c * u with c = (eta/n) R X'; R = l'(f)."""

    def __init__(
        self, chunk: int, sizes: tuple[int, int, int, int], act: Activation, like: Tensor
    ) -> None:
        m0, _, _, n = sizes
        self._store = [like.new_empty(chunk, 1, k) for k in (m0, n, m0, m0)]

    @staticmethod
    def elements(sizes: tuple[int, int, int, int]) -> int:
        """Numbers of working memory per run."""
        return 5 * sizes[0] + sizes[3]

    @staticmethod
    def flops(sizes: tuple[int, int, int, int]) -> int:
        """Floating-point operations of the matrix products, per run and step."""
        return 4 * sizes[0] * sizes[3]

    @staticmethod
    def pack(weights: DiagonalWeights) -> list[Tensor]:
        return [w.detach().clone(memory_format=torch.contiguous_format) for w in weights]

    @staticmethod
    def unpack(packed: Sequence[Tensor]) -> DiagonalWeights:
        return DiagonalWeights(*packed)

    def bind(self, packed: Sequence[Tensor], data: Data, loss: Loss, scale: Tensor) -> None:
        self._u, self._v = packed
        self._data, self._loss, self._scale = data, loss, scale
        self._beta, self._f, self._c, self._old = (b[: len(scale)] for b in self._store)
        self._x, self._xt = (t.expand(len(scale), -1, -1) for t in (data.inputs, data.transposed))
        self._fresh = False

    def outputs(self) -> Tensor:
        torch.mul(self._u, self._v, out=self._beta)
        torch.bmm(self._beta, self._x, out=self._f)
        self._fresh = True
        return self._f

    def advance(self, steps: int) -> None:
        u, v, f, c, old = self._u, self._v, self._f, self._c, self._old
        for _ in range(steps):
            if not self._fresh:
                self.outputs()
            self._fresh = False
            residual_(f, self._data.targets, self._loss)
            torch.bmm(f, self._xt, out=c)
            c.mul_(self._scale)
            old.copy_(u)
            u.addcmul_(c, v, value=-1)
            v.addcmul_(c, old, value=-1)


@checked
def diagonal_descent(
    weights: DiagonalWeights,
    problem: Problem,
    *,
    step_size: float | Float[Tensor, " runs"],
    steps: int,
    loss: str | Loss = "squared",
    record_at: Int[Tensor, " records"] | None = None,
    observables: Sequence[str] = ("loss",),
    stop: Stop | None = None,
    on_divergence: str = "raise",
    progress: Callable[[int, int], None] | None = None,
) -> Trajectory:
    """Gradient descent for an ensemble of diagonal nets; arguments as in `gradient_descent`.

    weights : u and v, (runs, 1, m0). problem : targets (1, n).
    observables : names from `DIAGONAL_OBSERVABLES`.
    """
    x, y = problem.inputs, problem.targets
    check_finite("u", weights.u)
    check_finite("v", weights.v)
    check_shape("u", weights.u, (None, 1, x.shape[-2]))
    check_shape("v", weights.v, tuple(weights.u.shape))
    check_shape("targets", y, (1, x.shape[-1]))
    eta = as_positive("step_size", step_size, len(weights.u), weights.u.dtype, weights.u.device)
    check_integer("steps", steps)
    check_choice("on_divergence", on_divergence, ("raise", "mark"))
    check_choices("observables", observables, DIAGONAL_OBSERVABLES)
    check_fits(find_loss(loss), weights.u.new_empty(len(weights.u), 1, x.shape[-1]), y)
    met = None
    if stop is not None:

        def met(s: State) -> Tensor:
            done = torch.zeros_like(s.loss, dtype=torch.bool)
            if stop.loss is not None:
                done = done | (s.loss <= stop.loss)
            if stop.gradient_norm is not None:
                done = done | (_gradient_norm(s) <= stop.gradient_norm)
            return done

    trajectory = Ensemble(
        kernel=DiagonalKernel,
        sizes=(x.shape[-2], x.shape[-2], 1, x.shape[-1]),
        act=find_activation("linear"),
        loss=find_loss(loss),
        data=Data(x, x.mT.contiguous(), y),
        step_size=eta,
        steps=steps,
        grid=record_grid(record_at, steps),
        observables={name: DIAGONAL_OBSERVABLES[name] for name in observables},
        full_state=_state,
        met=met,
        raising=on_divergence == "raise",
        progress=progress,
    ).run(weights)
    return replace(trajectory, step_size=step_size)
