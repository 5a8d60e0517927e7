"""What kind of point a net rests at, with the numbers that decide.

Two proofs that no net can do better: for linear nets and squared loss the least-squares loss over
all maps (a stationary point that is no minimum lies above it by the energy of at least one mode,
Baldi and Hornik 1989; in a diagonal net by what leaving one coordinate out costs), for others a
loss of zero. Everywhere else the second order decides: no dormant unit grows, no copies
part, no kink is concave, and the Hessian among the active units has no negative value.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from scipy.optimize import linprog
from torch import Tensor

from learning_dynamics.saddles.skipping.clarke import is_piecewise_linear, near_kinks, resolve_kinks
from learning_dynamics.saddles.skipping.curvature import curvature
from learning_dynamics.saddles.skipping.objective import Objective
from learning_dynamics.saddles.two_layer import State

__all__ = ["Certificate", "bound", "second_order"]

LARGEST_GAP = 1e-6  # of L(0), that of all tests of levels; the descent's tolerance leaves 1e-11
ROUNDING = 1e-24  # share of |Y|^2 below which a mode is rounding: amplitude 1e-12, data 1e-16
MOST_PARAMETERS = 2000  # of a Hessian: 32 MB, a second


@dataclass(frozen=True)
class Certificate:
    """What is known of a point.

    status  : "global": gap <= allowed. "second-order": stationary, and nothing of what follows
              leads down. "no-minimum": separable classes, the loss falls for ever. "saddle":
              something leads down. "unknown": not stationary, or too large for a test.
    least   : a lower bound of L over all nets; None if none is known.
    gap     : (L - least)/L(0); None if there is no bound. allowed : the largest gap that proves
              a minimum, at most 1e-6 and below every known saddle.
    gradient, escape, elsewhere, splitting, curvature : |gradient| (smallest in Clarke's sense) over
              |w|, the largest growth rate of a dormant unit, of a unit of any direction and size (a
              lower bound), and of copies that part, the least eigenvalue of the Hessian, all in
              units of sigma_1(X) |R|; None where not computed.
    why     : in words.
    """

    status: str
    least: float | None = None
    gap: float | None = None
    allowed: float | None = None
    gradient: float | None = None
    escape: float | None = None
    elsewhere: float | None = None
    splitting: float | None = None
    curvature: float | None = None
    why: str = ""

    @property
    def holds(self) -> bool:
        """The point is a minimum, to second order at least."""
        return self.status in ("global", "second-order")


@dataclass(frozen=True)
class _Fit:
    """Least squares of Y on X, energies as shares of that of Y: what the outputs still miss of
    it, what no linear map explains, and its modes (None where the theorem does not hold)."""

    missed: float
    unexplained: float
    modes: Tensor | None


def _fit(objective: Objective, outputs: Tensor, diagonal: bool) -> _Fit:
    x, y = objective.problem.inputs.double(), objective.problem.targets.double()
    weights = torch.ones_like(y)
    if objective.loss.name == "weighted squared":
        weights = objective.loss.residual(weights, torch.zeros_like(y)).double()
    scale = y.abs().max()  # all in units of it: no energy underflows
    if float(scale) == 0:
        return _Fit(0.0 if not outputs.any() else 1.0, 0.0, y.new_zeros(0))
    target, residual = y / scale, (y - outputs.double()) / scale
    kinds, which = weights.unique(dim=0, return_inverse=True)
    missed = unexplained = total = 0.0
    for k, omega in enumerate(kinds.sqrt()):
        rows = omega * x
        rows = rows / rows.abs().amax(dim=1, keepdim=True).clamp(min=5e-324)  # features' units go
        _, values, basis = torch.linalg.svd(rows, full_matrices=False)
        basis = basis[values > values[0] * max(rows.shape) * torch.finfo(values.dtype).eps].mT
        own = omega * target[which == k]
        missed += float((omega * residual[which == k] @ basis).square().sum())
        unexplained += float((own - own @ basis @ basis.mT).square().sum())
        total += float(own.square().sum())
    if total == 0:  # no target has a weight
        return _Fit(0.0 if missed == 0 else 1.0, 0.0, y.new_zeros(0))
    modes = None
    if diagonal and basis.shape[1] == len(x):
        inverse = torch.linalg.pinv(rows)
        modes = (own @ inverse)[0].square() / inverse.square().sum(0)
    elif not diagonal and len(kinds) == 1:
        modes = torch.linalg.svdvals(own @ basis).square()
    return _Fit(missed / total, unexplained / total, None if modes is None else modes / total)


def bound(objective: Objective, outputs: Tensor, *, diagonal: bool = False) -> Certificate:
    """How far a net with these outputs, (m2, n), is from what no net can pass.

    Status "global" or "unknown". Evaluations for it are not counted: it is a look at the end.
    """
    loss, targets = objective.loss, objective.problem.targets
    fit = _fit(objective, outputs, diagonal)
    first = objective.first()
    if objective.activation.name == "linear" and loss.name in ("squared", "weighted squared"):
        why = "distance from the least-squares loss against that of the lowest saddle"
        least, gap, allowed = first * fit.unexplained, fit.missed, LARGEST_GAP
        if fit.modes is None:
            why = "distance from the least-squares loss; no saddle's loss is known beforehand"
        elif bool((fit.modes > ROUNDING).any()):
            allowed = min(allowed, 0.5 * float(fit.modes[fit.modes > ROUNDING].min()))
    elif float(loss.value(targets, targets)) == 0:
        least, gap = 0.0, 0.0
        # below what a linear map leaves, where that is not zero: a large mean of Y is no measure
        allowed = LARGEST_GAP * (fit.unexplained if fit.unexplained > ROUNDING else 1.0)
        if bool(loss.residual(outputs, targets).any()):
            if first < 1e-290:
                return Certificate("unknown", least, why="losses too small to be compared")
            gap = float(loss.value(outputs, targets)) / first
        why = "distance from a loss of zero"
    else:
        return Certificate("unknown", why=f"loss {loss.name!r}: no lower bound is computed")
    return Certificate("global" if gap <= allowed else "unknown", least, gap, allowed, why=why)


def _separable(objective: Objective, outputs: Tensor) -> str | None:
    """Why a classification loss has no minimum, None if it may have one."""
    name, y = objective.loss.name, objective.problem.targets
    if name not in ("logistic", "cross_entropy") or not objective.activation.homogeneous:
        return None
    if name == "logistic":
        margins = y * outputs
    else:
        own = (outputs * y).sum(0)
        margins = torch.where(y == 1, torch.inf, own - outputs)
        if not bool(((y == 0) | (y == 1)).all()):
            return None
    if bool((margins > 0).all()):
        return "all samples are classified: a multiple of the net has a smaller loss"
    x = objective.problem.inputs.numpy()
    if objective.activation.name != "linear" or min(x.shape[0], len(y)) > len(outputs):
        return None
    if name == "logistic":
        rows = [y[o].numpy()[:, None] * x.T for o in range(len(y))]
    else:
        one_hot = np.eye(len(y))
        pairs = [
            (j, k, o) for j, k in enumerate(y.argmax(0).tolist()) for o in range(len(y)) if o != k
        ]
        rows = [np.stack([np.kron(one_hot[k] - one_hot[o], x[:, j]) for j, k, o in pairs])]
    for a in rows:  # a map v with 0 <= a v <= 1, and not a v = 0
        best = linprog(
            -a.sum(0),
            A_ub=np.concatenate([-a, a]),
            b_ub=np.concatenate([np.zeros(len(a)), np.ones(len(a))]),
            bounds=(None, None),
        )
        if best.status == 0 and -best.fun > 1e-6:
            return "a linear map separates the classes: the loss falls for ever along it"
    return None


def _elsewhere(objective: Objective, gradient: Tensor) -> float:
    """The largest of |sigma(a X) R'|/|a| over directions a along samples and features: with the
    best b a unit (a, b) grows at that rate, whatever it turns to later.

    Where sigma has a scale, sizes of a too: what a small unit gains in higher order only (tanh: a^3
    b) is gained all the same, so that no point with R sigma(a X)' != 0 for some a is a minimum.
    """
    x, act = objective.problem.inputs, objective.activation
    rows = torch.cat([x.mT, torch.eye(len(x), dtype=x.dtype)])
    rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-300)
    z = torch.cat([rows, -rows]) @ x
    largest = float(z.abs().max()) or 1.0
    sizes = [1.0] if act.homogeneous else [size / largest for size in (0.3, 3.0, 30.0)]
    found = [(act(size * z) @ gradient.mT).norm(dim=1).max() / size for size in sizes]
    return float(torch.stack(found).max())


def second_order(
    objective: Objective,
    state: State,
    *,
    escape: float,
    spare: bool,
    copies: list[int] | None = None,
    rate_tolerance: float = 1e-6,
    mask: Bool[Tensor, " parameter"] | None = None,
    known: Certificate | None = None,
) -> Certificate:
    """The certificate of a state whose bound `known` proves nothing.

    escape : largest growth rate of a dormant unit. spare : the net has units that are not active:
    a change can give them any direction, also one that gradient descent never does.
    copies : of each active unit (None: one each).
    mask : parameters that exist, unit by unit (None: all). Costs k c/6 gradient evaluations for k
    units of c parameters, which are not counted.
    """
    units, x = state.weights.units, objective.problem.inputs
    found = {} if known is None else {"least": known.least, "gap": known.gap}
    if (why := _separable(objective, state.outputs)) is not None:
        return Certificate("no-minimum", **found, why=why)
    if units.numel() > MOST_PARAMETERS:
        why = f"{units.numel()} parameters: no Hessian of more than {MOST_PARAMETERS} is computed"
        return Certificate("unknown", **found, why=why)
    scale = objective.largest_rate(state) or 1.0
    kinks, leads, elsewhere = None, [], escape
    if is_piecewise_linear(objective.activation):
        on = near_kinks(units[:, : len(x)], x, 1e-9)
        gradient = -objective.residual(state)
        kinks = resolve_kinks(units, x, gradient, objective.activation, on)
        if bool(kinks.concave.any()):
            leads.append("a concave kink")
    if spare and objective.activation.name != "linear":
        elsewhere = max(escape, _elsewhere(objective, objective.residual(state)))
    second = curvature(units, objective, state.outputs, kinks)
    slope, hessian = second.gradient.flatten(), second.hessian
    if mask is not None:
        slope, hessian = slope[mask], hessian[mask][:, mask]
    norm = float(slope.norm()) / (scale * float(units.norm())) if len(units) else 0.0
    values = torch.linalg.eigvalsh(hessian) if len(units) else x.new_zeros(1)
    apart = [
        -float(torch.linalg.eigvalsh(block)[0])
        for k, block in enumerate(second.copies)
        if copies is not None and copies[k] > 1
    ]
    numbers = {
        "gradient": norm,
        "escape": escape / scale,
        "elsewhere": elsewhere / scale,
        "splitting": max(apart, default=0.0) / scale,
        "curvature": float(values[0]) / scale,
    }
    floor = max(rate_tolerance, 10 * norm, 1e-12 * float(values[-1]) / scale)
    if numbers["escape"] > rate_tolerance:
        leads.append("a dormant unit grows")
    elif numbers["elsewhere"] > rate_tolerance:
        leads.append("a direction grows that no dormant unit has: gradient descent stays")
    if numbers["splitting"] > floor:
        leads.append("copies of an active unit part")
    if numbers["curvature"] < -floor:
        leads.append("negative curvature among active units")
    if norm > 1e-4:
        return Certificate("unknown", **found, **numbers, why="not stationary")
    status = "saddle" if leads else "second-order"
    return Certificate(status, **found, **numbers, why="; ".join(leads) or "nothing leads down")
