"""Where a sleeping unit goes at a stationary point, and how far to put it.

With R = -G = -dL/df, a sleeping unit w = (a, b) obeys (thesis 000, Lemma 1)
    da/dt = X D R' b,    db/dt = R sigma(a X)',    D = diag sigma'(a X),
with R constant: exponential growth along the top singular pair of X D R' that is
consistent with its own D.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.saddles.objective import Objective
from learning_dynamics.saddles.two_layer import State

__all__ = ["Balance", "balance", "balance_size", "pair_of_linear_unit"]


@dataclass(frozen=True)
class Balance:
    """Where the loss stops falling along a new unit.

    size      : rho. curvature : mean of l'' along the way, d^2L/dt^2 over its value for l'' = 1.
    outputs   : (m2, n), those of the last trial; f at size rho if the search ended there.
    """

    size: float
    curvature: float
    outputs: Float[Tensor, "m2 n"]


def pair_of_linear_unit(
    objective: Objective, state: State
) -> tuple[Float[Tensor, " coordinate"], Float[Tensor, " modes"]]:
    """Escape direction (p, q)/sqrt 2 of a sleeping unit with slope sigma'(0), and all rates.

    p, q : top singular pair of sigma'(0) X R'. rates : its singular values, growth per unit
    time, in descending order. Exact for linear nets; for smooth activations with sigma(0) = 0
    a unit is linear while it sleeps. Costs one SVD of an (m0, m2) matrix.
    """
    slope = objective.activation.derivative(state.loss.new_zeros(()))
    x = objective.problem.inputs
    p, rates, q = objective.svd(slope * (x @ objective.residual(state).mT))
    return torch.cat([p[:, 0], q[0]]) / 2**0.5, rates


def balance_size(
    direction: Float[Tensor, " coordinate"], objective: Objective, state: State
) -> float:
    """The size rho of `balance`."""
    return balance(direction, objective, state).size


def balance(
    direction: Float[Tensor, " coordinate"],
    objective: Objective,
    state: State,
    *,
    max_trials: int = 30,
) -> Balance:
    """The size rho of a unit rho * direction at which the loss stops falling along it.

    With u = q sigma(p X), t = rho^2/2 and L(f + t u): dL/dt = -sigma at t = 0 and
        L = L* - sigma rho^2/2 + kappa rho^4/8 + ...,  kappa = d^2L/dt^2,
    the fall of the quadratic term is stopped by the quartic one at rho^2 = 2 sigma/kappa
    (exact for the squared loss). Found by a safeguarded secant method in t from the Lipschitz
    constant of the loss; each trial counts as one gradient evaluation. If the loss falls without
    end along u (separable classes) the largest trial is returned. Smooth activations: u is
    taken linear, q sigma'(0) p X, and rho is halved until the loss falls.
    """
    x = objective.problem.inputs
    act = objective.activation
    p, q = 2**0.5 * direction[: len(x)], 2**0.5 * direction[len(x) :]
    h = act(p @ x) if act.homogeneous else act.derivative(x.new_zeros(())) * (p @ x)
    u = q[:, None] * h[None, :]
    slope = float(-(objective.residual(state) * u).sum())
    if slope >= 0:
        raise ValueError(f"direction: the loss does not fall along it (slope {slope:g})")
    square = float(u.square().sum()) / x.shape[-1]
    low, slope_low, high = 0.0, slope, None
    t = -slope / ((objective.loss.lipschitz or 1.0) * square)
    for _ in range(max_trials):
        outputs = state.outputs + t * u
        value, g = objective.output_gradient(outputs)
        at_t = float((g * u).sum())
        curvature = (at_t - slope) / (t * square)
        if abs(at_t) <= 0.1 * abs(slope):
            break
        if at_t > 0:
            high, slope_high = t, at_t
        else:
            secant = t + (t - low) * at_t / (slope_low - at_t) if slope_low < at_t else 4 * t
            low, slope_low, beyond = t, at_t, min(max(secant, 1.1 * t), 4 * t)
        t = beyond if high is None else low + (high - low) * slope_low / (slope_low - slope_high)
    rho = (2 * t) ** 0.5
    while not act.homogeneous:
        unit = rho * direction
        extra = unit[len(x) :, None] * act(unit[: len(x)] @ x)[None, :]
        outputs = state.outputs + extra
        value, _ = objective.output_gradient(outputs)
        if value < float(state.loss) or rho < 1e-8:
            break
        rho *= 0.5
    return Balance(rho, max(curvature, 1e-12), outputs)
