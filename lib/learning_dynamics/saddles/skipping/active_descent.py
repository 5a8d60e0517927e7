"""From a saddle's exit to the next saddle: descent among the active units.

Two phases, one interface: plain gradient descent (the thesis's own) and a fast one. The fast phase
is SciPy's L-BFGS-B for smooth activations; for piecewise linear ones exponential steps of the
gradient flow with the exact Hessian of the activation cell (Newton steps near the end).
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.optimize import minimize
from torch import Tensor

from learning_dynamics.saddles.skipping.clarke import (
    Kinks,
    is_piecewise_linear,
    near_kinks,
    put_on_kinks,
    resolve_kinks,
)
from learning_dynamics.saddles.skipping.curvature import curvature
from learning_dynamics.saddles.skipping.objective import Objective
from learning_dynamics.saddles.skipping.settings import Settings
from learning_dynamics.saddles.two_layer import State, Weights

__all__ = [
    "Descended",
    "descend",
    "flow_phase",
    "gauss_newton",
    "gradient_phase",
    "inverse_root",
    "quasi_newton_phase",
]


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


#: After so many steps a descent creeps along a valley. A plateau is over after log(1/epsilon)/rate:
#: what escapes next does not wait for the end of the valley.
PATIENCE = 100


@dataclass(frozen=True)
class Descended:
    """The end of a descent phase. reached : the stated tolerance was met."""

    weights: Weights
    state: State
    reached: bool


def descend(
    start: tuple[Weights, Float[Tensor, "m2 n"]],
    objective: Objective,
    settings: Settings,
    *,
    rate: float,
    size: float,
    curvature: float,
    diagonal: bool,
) -> Descended:
    """From an escape (weights with their outputs) to the next saddle, by the phase of `settings`.

    rate, size, curvature : of the unit that escaped (curvature: l'' met on its way).
    Fast phase of a linear net: in whitened inputs, where units and correlations of the features
    do not matter. A saddle among the active units of a smooth net is left (`away`).
    """
    weights, known = start
    tolerance, most = settings.tolerance * rate * size, settings.max_steps
    mask = weights.w1 != 0 if diagonal else None
    options: dict[str, Any] = {"mask": mask, "known": known, "max_steps": most}
    if settings.step_size is not None and settings.phase == "gradient_descent":
        step = settings.step_size
        return gradient_phase(weights, objective, step_size=step, tolerance=tolerance, **options)
    if is_piecewise_linear(objective.activation):
        return flow_phase(
            weights,
            objective,
            tolerance=tolerance,
            max_steps=most,
            time=1 / rate,
            relative=0.1 * settings.tolerance,
            known=known,
        )
    if diagonal or objective.activation.name != "linear":
        options["curvature"], options["rate"] = curvature, rate
        return _quasi_newton(weights, objective, tolerance, options)
    white = objective.whitened()
    inner = white.objective
    inner.gradients = objective.gradients
    rows = weights.w1 @ white.into
    stretch = float(rows[-1].norm() / weights.w1[-1].norm())
    tolerance, options["curvature"] = tolerance / stretch**0.5, curvature
    done = _quasi_newton(Weights(rows, weights.w2), inner, tolerance, options)
    objective.gradients = inner.gradients
    w, g = done.weights, done.state.gradients
    weights = Weights(w.w1 @ white.back, w.w2)
    state = done.state._replace(weights=weights, gradients=Weights(g.w1 @ white.into.mT, g.w2))
    return Descended(weights, state, done.reached)


def _quasi_newton(
    weights: Weights, objective: Objective, tolerance: float, options: dict[str, Any]
) -> Descended:
    """`quasi_newton_phase`, until no saddle among the active units is left but for those at which
    a linear net rests: where modes cannot mix, what leads down among the active units starts as
    small as a dormant mode and grows more slowly.
    """
    start, done = weights, quasi_newton_phase(weights, objective, tolerance=tolerance, **options)
    for _ in range(10 if options["mask"] is None and done.reached else 0):
        state, units = done.state, done.weights.units
        if units.numel() * state.outputs.numel() > 1e7:
            break
        model = curvature(units, objective, state.outputs)
        values, vectors = torch.linalg.eigh(model.hessian)
        floor = max(1e-6 * objective.largest_rate(state), 1e-12 * float(values[-1]))
        if float(values[0]) >= -max(floor, 100 * _norm(state, None) / float(units.norm())):
            break
        direction = vectors[:, 0].reshape(units.shape)
        if objective.activation.name == "linear" and _kept_off(direction, objective, start):
            break
        left = _away(objective, state, direction)
        if left is None:
            break
        start, options = left.weights, options | {"known": left.outputs}
        done = quasi_newton_phase(left.weights, objective, tolerance=tolerance, **options)
    return done


def _kept_off(direction: Tensor, objective: Objective, start: Weights) -> bool:
    """Whether a descent from `start` has no part along a direction, up to rounding."""
    before = objective.gradients
    with objective.unrecorded():
        state = objective(start)
    objective.gradients = before
    slope = state.gradients.units / objective.largest_rate(state)
    parts = torch.stack([(x * direction).sum().abs() for x in (start.units, slope)])
    return bool((parts <= 1e-9 * start.units.norm()).all())


def _away(objective: Objective, state: State, direction: Tensor) -> State | None:
    """The lower of the two states beside a saddle along a direction of negative curvature; the
    signs are told apart by the direction's first largest entry. None if none is lower."""
    flat = direction.flatten().abs()
    first = int((flat >= (1 - 1e-6) * flat.max()).nonzero()[0, 0])
    direction = direction * direction.flatten()[first].sign()
    units, m0 = state.weights.units, state.weights.w1.shape[1]
    for k in range(40):
        size = 0.3 * 0.5**k * float(units.norm())
        both = [objective(_split(units + s * size * direction, m0)) for s in (1, -1)]
        best = min(both, key=lambda s: float(s.loss))
        if best.loss < state.loss:
            return best
    return None


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
) -> Descended:
    """Gradient descent until |gradient| <= tolerance (in loss/weight), every iterate recorded.

    mask : entries of W1 that exist (a diagonal net has one per unit).
    known : outputs at the start, if they were evaluated already (see `Objective`).
    Piecewise linear activations: gradient descent only chatters about a saddle on a kink, so every
    25 steps the nearest point on the kinks within one step is tested for Clarke
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
        if piecewise and step % 25 == 24:
            reach = 2 * step_size * g1.norm(dim=1, keepdim=True) * x.norm(dim=0)
            kinks = (weights.w1 @ x).abs() <= reach
            if bool(kinks.any()):
                objective.gradients += 1
                placed = put_on_kinks(weights, x, kinks)
                outputs = placed.w2 @ objective.activation(placed.w1 @ x)
                g = objective.loss.gradient(outputs, objective.problem.targets)
                found = resolve_kinks(placed.units, x, g, objective.activation, kinks)
                d1 = (found.slopes * (placed.w2.mT @ g)) @ x.mT
                d2 = g @ objective.activation(placed.w1 @ x).mT
                if float((d1.square().sum() + d2.square().sum()).sqrt()) <= 100 * tolerance:
                    return flow_phase(placed, objective, tolerance=tolerance, max_steps=max_steps)
        weights = Weights(weights.w1 - step_size * g1, weights.w2 - step_size * state.gradients.w2)
    return Descended(weights, objective(weights), False)


def _weights(flat: np.ndarray, like: Weights) -> Weights:
    values = torch.from_numpy(flat).clone().to(like.w1.dtype)  # aligned: sums in one order
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
    flat = torch.cat([weights.w1.flatten(), weights.w2.flatten()]).double()
    start = (root @ flat.to(root)).double().numpy() / unit
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


def _first_kink(
    units: Tensor, step: Tensor, kinks: Kinks, objective: Objective
) -> tuple[float, tuple[int, int] | None]:
    """The share of the step at which a unit meets its first kink, and which (unit, sample)."""
    x = objective.problem.inputs
    z, dz = units[:, : len(x)] @ x, step[:, : len(x)] @ x
    off = ~near_kinks(units[:, : len(x)], x) & ~kinks.held
    share = torch.where(off & (z * dz < 0), -z / dz, torch.inf)
    k = int(share.argmin())
    best = float(share.flatten()[k])
    return best, divmod(k, x.shape[1]) if best < 1 else None


def flow_phase(
    weights: Weights,
    objective: Objective,
    *,
    tolerance: float,
    max_steps: int,
    time: float = 1.0,
    relative: float = 0.0,
    known: Float[Tensor, "m2 n"] | None = None,
) -> Descended:
    """Gradient flow of a piecewise linear net until |gradient| <= tolerance and no curvature < 0.

    A step of time h solves the flow exactly for the quadratic model at its start: along an
    eigenvector of the Hessian with value lambda, -gradient (1 - exp(-lambda h))/lambda. It is kept
    if the loss falls by at least a quarter of the model's fall, and h grows fourfold if the model
    is good: the flow's path first, Newton's method in the end. A step that fails after a kink
    ends on the kink. There `resolve_kinks` decides: rest, slide, cross or leave.
    Where the gradient vanishes and the Hessian has a negative value the point is a saddle among
    the active units, and is left along that eigenvector towards the lower side.
    time : first h. Costs of the Hessian are counted in gradient evaluations.
    """
    x, act, m0 = objective.problem.inputs, objective.activation, len(objective.problem.inputs)
    state, h = objective(weights, known), time
    objective.record(state)
    units, on = weights.units, near_kinks(weights.w1, x, 1e-9)
    middle = float(act.derivative(x.new_tensor([-1.0, 1.0])).mean())
    last, steps = objective.gradients + max_steps, 0
    while True:
        weights = put_on_kinks(_split(units, m0), x, on)
        units = weights.units
        g = -objective.residual(state)
        kinks = resolve_kinks(units, x, g, act, on)
        model = curvature(units, objective, state.outputs, kinks)
        objective.gradients += math.ceil(units.numel() / 6)
        values, vectors = torch.linalg.eigh(model.hessian)
        along = vectors.mT @ model.gradient.flatten()
        norm, least = float(along.norm()), float(values[0])
        floor = max(1e-6 * objective.largest_rate(state), 1e-12 * float(values[-1]))
        if objective.gradients >= last:
            return Descended(weights, state, False)
        found = None
        largest = objective.largest_rate(state)
        share = relative * (100 if steps > PATIENCE else 1)
        if norm <= max(tolerance, share * largest * float(units.norm())):
            if least >= -floor:
                return Descended(weights, state, True)
            new = _away(objective, state, vectors[:, 0].reshape(units.shape))
            if new is None:
                return Descended(weights, state, True)
            found, h, on = (new, new.weights.units), 1 / abs(least), kinks.held
        free, slow = on & ~kinks.held, False
        while found is None:
            bent = (-values * h).clamp(max=5.0)
            factor = torch.where(bent.abs() < 1e-8, h, torch.expm1(bent) / -values)
            step = -(vectors @ (factor * along)).reshape(units.shape)
            turned = free & ((step[:, :m0] @ x) * (kinks.slopes - middle) < -1e-12 * step.norm())
            if bool(turned.any()) and not slow:  # the flow leaves these kinks and comes back
                kept = replace(kinks, held=kinks.held | turned)
                rest = curvature(units, objective, state.outputs, kept)
                slow = float(rest.gradient.norm()) < 0.1 * norm
                if not slow:
                    kinks, model, free = kept, rest, free & ~turned
                    values, vectors = torch.linalg.eigh(model.hessian)
                    along = vectors.mT @ model.gradient.flatten()
                continue
            if bool(turned.any()) or float(step.norm()) > 0.5 * float(units.norm()):
                h *= 0.5  # towards the flow, which leaves kinks to the side of their slopes
                continue
            tilt = float((model.gradient * step).sum())
            bend = 0.5 * float(step.flatten() @ model.hessian @ step.flatten())
            if -(tilt + bend) <= 1e-15 * float(state.loss):
                return Descended(weights, state, norm <= 10 * tolerance)
            share, pair = _first_kink(units, step, kinks, objective)
            on = kinks.held.clone()
            for part in (1.0, share) if pair else (1.0,):
                trial = units + part * step
                if part < 1:
                    on[pair] = True
                    trial = put_on_kinks(_split(trial, m0), x, on).units
                new = objective(_split(trial, m0))
                good = float(state.loss - new.loss) / -(part * tilt + part**2 * bend)
                if good >= 0.25 and new.loss < state.loss:
                    found = new, trial
                    h *= 4 if good >= 0.75 and part == 1 else 1
                    break
            else:
                h *= 0.25
        (state, units), steps = found, steps + 1
        on = on | near_kinks(units[:, :m0], x)
        objective.record(state)


def _split(units: Tensor, m0: int) -> Weights:
    return Weights(units[:, :m0].contiguous(), units[:, m0:].mT.contiguous())
