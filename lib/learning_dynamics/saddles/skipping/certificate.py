"""What is proved about a point at which nothing escapes: a lower bound of L and its distance.

That no dormant unit grows does not make a stationary point a minimum: active units of a nonlinear
net may still split (no second order among them is tested), and a rate below a threshold is not
zero. So the end is compared with a bound that no net can pass:
* linear nets, squared loss: least squares over all maps. Stationary points that are no minimum
  lie above it by the energy of at least one mode of the targets' projection on the inputs' rows
  (Baldi and Hornik 1989); in a diagonal net by what leaving one coordinate out costs.
* other nets and losses that are zero at f = Y: zero.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from learning_dynamics.saddles.skipping.objective import Objective

__all__ = ["Certificate", "certify"]

LARGEST_GAP = 1e-6  # of L(0), that of all tests of levels; the descent's tolerance leaves 1e-11
ROUNDING = 1e-24  # share of |Y|^2 below which a mode is rounding: amplitude 1e-12, data 1e-16


@dataclass(frozen=True)
class Certificate:
    """Whether the point is proved to be a minimum, and the numbers that decide.

    holds   : gap <= allowed. least : a lower bound of L over all nets; None if none is known.
    gap     : (L - least)/L(0); None if there is no bound. allowed : the largest gap that proves
              a minimum, at most 1e-6 and below every known saddle. why : in words.
    """

    holds: bool
    least: float | None
    gap: float | None
    allowed: float | None
    why: str


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


def certify(objective: Objective, outputs: Tensor, *, diagonal: bool = False) -> Certificate:
    """The certificate of a net with these outputs, (m2, n), at which nothing escapes.

    Evaluations for it are not counted: the path has ended.
    """
    loss, targets = objective.loss, objective.problem.targets
    fit = _fit(objective, outputs, diagonal)
    first = float(loss.value(torch.zeros_like(targets), targets))
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
                return Certificate(False, least, None, None, "losses too small to be compared")
            gap = float(loss.value(outputs, targets)) / first
        why = "second order among active units is not tested: only a loss of zero proves a minimum"
    else:
        return Certificate(
            False,
            None,
            None,
            None,
            f"loss {loss.name!r}: no lower bound is computed, and it need not have a minimum",
        )
    return Certificate(gap <= allowed, least, gap, allowed, why)
