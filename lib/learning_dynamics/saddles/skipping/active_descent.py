"""From a saddle's exit to the next saddle: descent among the active units.

Two phases, one interface: plain gradient descent (the thesis's own) and a quasi-Newton method
(SciPy's L-BFGS-B; for piecewise linear activations SLSQP inside one activation cell at a time).
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.optimize import minimize
from torch import Tensor

from learning_dynamics.saddles.skipping.clarke import (
    clarke_test,
    is_piecewise_linear,
    near_kinks,
    put_on_kinks,
)
from learning_dynamics.saddles.skipping.objective import Objective
from learning_dynamics.saddles.two_layer import State, Weights

__all__ = ["Descended", "gauss_newton", "gradient_phase", "inverse_root", "quasi_newton_phase"]


def gauss_newton(
    weights: Weights, moment: Float[Tensor, "m0 m0"], curvature: float
) -> Float[Tensor, "parameter parameter"]:
    """The matrix above, in loss/weight^2; parameters: W1 row by row, then W2 row by row.

    moment : Sigma_xx. curvature : c, in units of l''; for an activation with slope s at zero
    pass c s^2.
    """
    w1, w2 = weights
    seen = w1 @ moment
    first = torch.kron(w2.mT @ w2, moment)
    second = torch.kron(torch.eye(len(w2), dtype=w2.dtype), seen @ w1.mT)
    mixed = torch.einsum("oi,lp->ipol", w2, seen).reshape(len(first), len(second))
    return curvature * torch.cat(
        [torch.cat([first, mixed], dim=1), torch.cat([mixed.mT, second], dim=1)]
    )


def inverse_root(
    metric: Float[Tensor, "parameter parameter"], least: float = 0.1
) -> tuple[Float[Tensor, "parameter parameter"], Float[Tensor, "parameter parameter"]]:
    """P^(1/2) and P^(-1/2), eigenvalues of P below `least` of the largest raised to that."""
    values, vectors = torch.linalg.eigh(metric)
    values = values.clamp(min=least * float(values[-1]))
    return (vectors * values.sqrt()) @ vectors.mT, (vectors / values.sqrt()) @ vectors.mT


@dataclass(frozen=True)
class Descended:
    """The end of a descent phase. reached : the stated tolerance was met."""

    weights: Weights
    state: State
    reached: bool


def _norm(state: State, mask: Tensor | None) -> float:
    g1 = state.gradients.w1 if mask is None else mask * state.gradients.w1
    return float((g1.square().sum() + state.gradients.w2.square().sum()).sqrt())


def gradient_phase(
    weights: Weights,
    objective: Objective,
    *,
    step_size: float,
    tolerance: float,
    max_steps: int,
    mask: Bool[Tensor, "m1 m0"] | None = None,
    known: Float[Tensor, "m2 n"] | None = None,
    check_every: int = 25,
) -> Descended:
    """Gradient descent until |gradient| <= tolerance (in loss/weight), every iterate recorded.

    mask : entries of W1 that exist (a diagonal net has one per unit).
    known : outputs at the start, if they were evaluated already (see `Objective`).
    Piecewise linear activations: gradient descent only chatters about a saddle on a kink, so every
    `check_every` steps the nearest point on the kinks within one step is tested for Clarke
    stationarity (within 100 x tolerance); if it passes, the phase is finished on the kinks.
    """
    piecewise = is_piecewise_linear(objective.activation)
    x = objective.problem.inputs
    for step in range(max_steps):
        state = objective(weights, known if step == 0 else None)
        objective.record(state)
        g1 = state.gradients.w1 if mask is None else mask * state.gradients.w1
        if _norm(state, mask) <= tolerance:
            return Descended(weights, state, True)
        if piecewise and step % check_every == check_every - 1:
            kinks = near_kinks(weights, x, 2 * step_size * g1.norm(dim=1))
            if bool(kinks.any()):
                objective.gradients += 1
                placed = put_on_kinks(weights, x, kinks)
                test = clarke_test(
                    placed, objective.problem, kinks, objective.activation, objective.loss
                )
                if test.norm <= 100 * tolerance:
                    return _cell_by_cell(placed, objective, tolerance, max_steps)
        weights = Weights(weights.w1 - step_size * g1, weights.w2 - step_size * state.gradients.w2)
    return Descended(weights, objective(weights), False)


def _flat(weights: Weights) -> np.ndarray:
    return torch.cat([weights.w1.flatten(), weights.w2.flatten()]).double().numpy()


def _weights(flat: np.ndarray, like: Weights) -> Weights:
    values = torch.from_numpy(np.array(flat)).to(like.w1.dtype)
    split = like.w1.numel()
    return Weights(values[:split].reshape(like.w1.shape), values[split:].reshape(like.w2.shape))


def quasi_newton_phase(
    weights: Weights,
    objective: Objective,
    *,
    tolerance: float,
    max_steps: int,
    curvature: float = 1.0,
    rate: float = 1.0,
    mask: Bool[Tensor, "m1 m0"] | None = None,
    known: Float[Tensor, "m2 n"] | None = None,
) -> Descended:
    """L-BFGS-B until |gradient| <= tolerance; every evaluation counted, iterates recorded.

    curvature : mean l'' at the start, for the Gauss-Newton metric (`metric`) in which the method
    runs; its first step, taken before it knows any curvature, has length one, and parameters
    are scaled so that this is a Gauss-Newton step.
    mask, rate : a diagonal net's parameters keep their axes; 2 rate is their curvature. They may
    not change sign either: gradient descent cannot cross u = v = 0, so that a coordinate driven
    to zero becomes dormant there.
    known : outputs at the start, if they were evaluated already (see `Objective`).
    """
    if is_piecewise_linear(objective.activation):
        return _cell_by_cell(weights, objective, tolerance, max_steps)
    first = objective(weights, known)
    objective.record(first)
    if _norm(first, mask) <= tolerance:
        return Descended(weights, first, True)
    if mask is None:
        slope = float(objective.activation.derivative(first.loss.new_zeros(())))
        metric = gauss_newton(weights, objective.second_moment(), curvature * slope**2)
    else:
        metric = 2 * rate * torch.eye(mask.numel() + weights.w2.numel(), dtype=weights.w1.dtype)
    root, inverse = inverse_root(metric)

    def to_weights(flat: np.ndarray) -> Weights:
        return _weights((inverse @ torch.from_numpy(flat * unit).to(inverse)).numpy(), weights)

    def gradient(state: State) -> Tensor:
        g1 = state.gradients.w1 if mask is None else mask * state.gradients.w1
        return inverse @ torch.cat([g1.flatten(), state.gradients.w2.flatten()])

    unit = float(gradient(first).norm())
    start = (root @ torch.from_numpy(_flat(weights)).to(root)).double().numpy() / unit
    states: dict[bytes, State] = {start.tobytes(): first}

    def function(flat: np.ndarray) -> tuple[float, np.ndarray]:
        key = flat.tobytes()
        if key not in states:
            states.clear()
            states[key] = objective(to_weights(flat))
        return float(states[key].loss), unit * gradient(states[key]).double().numpy()

    def callback(flat: np.ndarray) -> None:
        state = states.get(flat.tobytes())
        if state is not None:
            objective.record(state)
            if _norm(state, mask) <= tolerance:
                raise StopIteration

    bounds = None
    if mask is not None:
        bounds = [(0.0, None) if v > 0 else (None, 0.0) if v < 0 else (0.0, 0.0) for v in start]
    found = minimize(
        function,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        callback=callback,
        options={
            "maxfun": max_steps,
            "maxiter": max_steps,
            "ftol": 0.0,
            "gtol": 1e-300,
            "maxcor": 30,
        },
    )
    last = to_weights(found.x)
    state = states.get(found.x.tobytes())
    if state is None:
        state = objective(last)
    return Descended(last, state, _norm(state, mask) <= 10 * tolerance)


def _cell_minimum(
    weights: Weights,
    objective: Objective,
    slopes: Float[Tensor, "m1 n"],
    tolerance: float,
    max_steps: int,
) -> Weights:
    """The minimum of L inside the closed activation cell with the given slopes (SLSQP)."""
    problem, loss = objective.problem, objective.loss
    x, like = problem.inputs, weights
    one = torch.ones((), dtype=x.dtype)
    signs = torch.where(slopes == objective.activation.derivative(one), 1.0, -1.0).to(x.dtype)
    scale = max(float(weights.w1.norm()) * float(weights.w2.norm()), 1e-300)

    def function(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = _weights(flat, like)
        objective.gradients += 1
        h = slopes * (w.w1 @ x)
        outputs = w.w2 @ h
        g = loss.residual(outputs, problem.targets) / outputs.shape[-1]
        gradients = Weights((slopes * (w.w2.mT @ g)) @ x.mT, g @ h.mT)
        value = loss.value(outputs, problem.targets)
        return float(value), _flat(gradients)

    rows = np.zeros((signs.numel(), like.w1.numel() + like.w2.numel()))
    units, inputs = like.w1.shape
    for i in range(units):
        block = slice(i * signs.shape[1], (i + 1) * signs.shape[1])
        rows[block, i * inputs : (i + 1) * inputs] = (signs[i] * x).mT.numpy()
    constraints = {"type": "ineq", "fun": lambda v: rows @ v, "jac": lambda v: rows}
    found = minimize(
        function,
        _flat(weights),
        jac=True,
        method="SLSQP",
        constraints=constraints,
        options={"maxiter": max_steps, "ftol": (tolerance**2) / max(scale, 1.0)},
    )
    return _weights(found.x, like)


def _cell_by_cell(
    weights: Weights, objective: Objective, tolerance: float, max_steps: int, max_cells: int = 50
) -> Descended:
    """Minimise cell by cell, crossing a kink only where that lowers the loss (active set).

    At a cell's minimum the samples on its walls are tested: if slopes between left and right
    make the gradient zero, the point is Clarke stationary; else the smallest element of Clarke's
    subdifferential is a descent direction and says which walls to cross.
    """
    problem, act = objective.problem, objective.activation
    x = problem.inputs
    slopes = act.derivative(weights.w1 @ x)
    seen: set[bytes] = set()
    test = None
    for _ in range(max_cells):
        weights = _cell_minimum(weights, objective, slopes, tolerance, max_steps)
        reach = 1e-7 * weights.w1.norm(dim=1)
        kinks = near_kinks(weights, x, reach)
        weights = put_on_kinks(weights, x, kinks)
        test = clarke_test(weights, problem, kinks, act, objective.loss)
        state = objective(weights)
        objective.record(state)
        if test.norm <= 10 * tolerance:
            return Descended(weights, state, True)
        small = 1e-3 * test.norm * x.norm(dim=0)
        sides = act.derivative(torch.where(test.velocity > 0, 1.0, -1.0).to(x.dtype))
        wanted = torch.where(kinks & (test.velocity.abs() > small), sides, slopes)
        key = wanted.numpy().tobytes()
        if key in seen or bool((wanted == slopes).all()):
            break
        seen.add(key)
        slopes = wanted
    return Descended(weights, objective(weights), test is not None and test.norm <= 100 * tolerance)
