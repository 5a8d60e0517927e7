"""What a method spends and what path it draws: counted gradients and SVDs, recorded iterates.

All methods that compete with one another (the skipping algorithm and its baselines) see a problem
only through an `Objective`, so that their costs are counted in one way.
"""

import copy
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.activations import Activation
from learning_dynamics.activations import activation as find_activation
from learning_dynamics.kernels.weights import state_of
from learning_dynamics.losses import Loss, check_labels
from learning_dynamics.losses import loss as find_loss
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import Diverged, check_instance, check_shapes
from learning_dynamics.saddles.two_layer import State, Weights

__all__ = ["Objective", "Path", "add_unit", "no_units"]


def no_units(problem: Problem) -> Weights:
    """A net with no hidden unit, f = 0: every unit is dormant at the origin."""
    x, y = problem.inputs, problem.targets
    return Weights(x.new_zeros(0, x.shape[-2]), x.new_zeros(y.shape[-2], 0))


@dataclass(frozen=True)
class Path:
    """The path of one method on one problem.

    evaluations : (records,) gradient evaluations spent when a record was made, searches for
                  directions and line searches included.
    losses      : (records,) L.
    outputs     : (records, m2, n) f(X).
    saddles     : indices of the records that the method itself calls saddles, in order.
    svds        : singular value decompositions spent. seconds : wall time.
    weights     : the last weights. status : why the method stopped.
    """

    evaluations: Float[Tensor, " records"]
    losses: Float[Tensor, " records"]
    outputs: Float[Tensor, "records m2 n"]
    saddles: tuple[int, ...]
    svds: int
    seconds: float
    weights: Weights
    status: str = "finished"


class Objective:
    """L(W1, W2) of one problem, counting what is asked of it.

    problem : one run, inputs (m0, n) and targets (m2, n).
    One gradient evaluation is one pass over the data forward and back; a loss or a step of all
    dormant units at once counts as one too. Raises ValueError at the first non-finite loss.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        activation: str | Activation = "linear",
        loss: str | Loss = "squared",
    ) -> None:
        check_instance("problem", problem, Problem)
        if problem.inputs.ndim != 2:
            raise ValueError(
                f"problem: inputs have shape {tuple(problem.inputs.shape)}: one run, (m0, n), "
                "is needed"
            )
        self.problem = problem
        self.activation = find_activation(activation)
        self.loss = find_loss(loss)
        check_labels(self.loss, problem.targets)
        self.gradients = 0
        self.svds = 0
        self._moment: Tensor | None = None
        self._stretch: float | None = None
        self._white: Whitened | None = None
        self._log: list[tuple[int, Tensor, Tensor]] = []
        self._saddles: list[int] = []
        self._start = time.perf_counter()

    def __call__(self, weights: Weights, known: Float[Tensor, "m2 n"] | None = None) -> State:
        """Outputs, gradients and loss at `weights` (formulas of `two_layer.gradient`, one run).

        Counts one gradient evaluation, unless f(weights) are the outputs `known`, whose loss and
        G were counted just before: then that pass is completed, not repeated.
        """
        x, targets = self.problem.inputs, self.problem.targets
        check_shapes(inputs=(x, "..."), w1=(weights.w1, "..."), w2=(weights.w2, "..."))
        state = state_of(weights, x, targets, self.activation, self.loss)
        if known is None or not torch.allclose(state.outputs, known, rtol=1e-9, atol=1e-12):
            self.gradients += 1
        if not math.isfinite(state.loss):
            raise Diverged(0, self.gradients)
        return state

    def output_gradient(
        self, outputs: Float[Tensor, "m2 n"]
    ) -> tuple[float, Float[Tensor, "m2 n"]]:
        """L and G = dL/df at given outputs; counts one gradient evaluation."""
        self.gradients += 1
        value = self.loss.value(outputs, self.problem.targets)
        return float(value), self.loss.gradient(outputs, self.problem.targets)

    def first(self) -> float:
        """L(0), of a net that is zero (free)."""
        targets = self.problem.targets
        return float(self.loss.value(torch.zeros_like(targets), targets))

    def second_moment(self) -> Float[Tensor, "m0 m0"]:
        """Sigma_xx = X X'/n; counts one gradient evaluation the first time."""
        if self._moment is None:
            x = self.problem.inputs
            self._moment = x @ x.mT / x.shape[-1]
            self.gradients += 1
        return self._moment

    def whitened(self) -> "Whitened":
        """The problem in inputs with QQ'/n = I; counts one gradient evaluation the first time."""
        if self._white is None:
            self._white = _whiten(self)
            self.gradients += 1
        return self._white

    def residual(self, state: State) -> Float[Tensor, "m2 n"]:
        """-G at a state already evaluated (free)."""
        return -self.loss.gradient(state.outputs, self.problem.targets)

    def largest_rate(self, state: State) -> float:
        """sigma_1(X) |R|, a bound of every growth rate at this state, slopes up to one (free)."""
        if self._stretch is None:
            self._stretch = float(torch.linalg.matrix_norm(self.problem.inputs, 2))
        return self._stretch * float(self.residual(state).norm())

    def svd(self, matrix: Float[Tensor, "*batch r c"]) -> tuple[Tensor, Tensor, Tensor]:
        """Thin singular value decomposition; counts one per matrix of the batch."""
        self.svds += matrix[..., 0, 0].numel()
        return torch.linalg.svd(matrix, full_matrices=False)

    def record(self, state: State, *, saddle: bool = False) -> None:
        """Add a point to the path; `saddle` marks it as one."""
        if saddle:
            self._saddles.append(len(self._log))
        self._log.append((self.gradients, state.loss, state.outputs))

    @contextmanager
    def unrecorded(self) -> Iterator[None]:
        """What is tried inside leaves no points on the path."""
        kept = len(self._log)
        try:
            yield
        finally:
            del self._log[kept:]

    def path(self, weights: Weights, status: str = "finished") -> Path:
        """The path recorded so far."""
        count, losses, outputs = zip(*self._log, strict=True)
        return Path(
            evaluations=torch.tensor(count, dtype=torch.float64),
            losses=torch.stack(losses).double(),
            outputs=torch.stack(outputs).double(),
            saddles=tuple(self._saddles),
            svds=self.svds,
            seconds=time.perf_counter() - self._start,
            weights=weights,
            status=status,
        )


@dataclass(frozen=True)
class Whitened:
    """X = C Q with QQ'/n = I: inputs without units and correlations of the features.

    objective : the problem (Q, Y); shares the record. into : C (m0, r). back : C^+ (r, m0).
    """

    objective: Objective
    into: Float[Tensor, "m0 r"]
    back: Float[Tensor, "r m0"]


def _whiten(objective: Objective) -> Whitened:
    x, n = objective.problem.inputs, objective.problem.inputs.shape[-1]
    units = x.abs().amax(dim=1, keepdim=True).clamp(min=5e-324)
    left, values, right = torch.linalg.svd(x / units, full_matrices=False)
    kept = values > values[0] * max(x.shape) * torch.finfo(x.dtype).eps
    left, values, right = left[:, kept], values[kept] / n**0.5, right[kept] * n**0.5
    inner = copy.copy(objective)  # the list of records is the same
    inner.problem = Problem(right.contiguous(), objective.problem.targets)
    inner._moment, inner._stretch, inner._white = torch.eye(len(right), dtype=x.dtype), None, None
    back = (left / values).mT / units.mT
    if len(values) < len(x):  # dependent features: the map of least norm, where gradients lead
        back = torch.linalg.pinv(units * left * values)
    return Whitened(inner, units * left * values, back)


def add_unit(weights: Weights, unit: Float[Tensor, " coordinate"]) -> Weights:
    """The net of one run with one more unit w = (row of W1, column of W2)."""
    m0 = weights.w1.shape[-1]
    return Weights(
        torch.cat([weights.w1, unit[None, :m0]]), torch.cat([weights.w2, unit[m0:, None]], dim=1)
    )
