"""The directions of sleeping units of a kinked net (ReLU and its kin) during a plateau.

With R = -dL/df constant the direction of a unit w = (a, b) ascends the utility b'R sigma(a X)'.
Inside an activation cell the flow is linear. At a kink a . x_j = 0 it either crosses or, if both
sides push back, slides along it (Filippov): the slope there takes the value between left and
right that keeps a . x_j = 0.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.activations import Activation
from learning_dynamics.saddles.objective import Objective
from learning_dynamics.saddles.two_layer import State

__all__ = ["Followed", "follow_sleepers"]

ON_KINK = 1e-10  # |a . x_j| / |x_j| below which a unit of norm one is on the kink (rounding: 1e-16)


@dataclass(frozen=True)
class Followed:
    """Where sleeping units settle: unit directions (s, m0+m2) and growth rates (s,)."""

    directions: Float[Tensor, "s coordinate"]
    rates: Float[Tensor, " s"]


def _ends(act: Activation, like: Tensor) -> tuple[float, float]:
    one = torch.ones((), dtype=like.dtype)
    return float(act.derivative(-one)), float(act.derivative(one))


def _slopes(w: Tensor, x: Tensor, residual: Tensor, act: Activation) -> tuple[Tensor, Tensor]:
    """sigma'(a X) with the sliding value on kinks, and which kinks are slid on; both (s, n)."""
    m0 = len(x)
    z = w[:, :m0] @ x
    on = z.abs() <= ON_KINK * x.norm(dim=0)
    slopes = torch.where(on, torch.zeros_like(z), act.derivative(z))
    back = w[:, m0:] @ residual
    left, right = _ends(act, x)
    sliding = torch.zeros_like(on)
    for i in on.any(1).nonzero()[:, 0].tolist():
        kinks = on[i].nonzero()[:, 0]
        basis = x[:, kinks]
        push = basis.mT @ (x @ (slopes[i] * back[i]))
        gain = (basis.mT @ basis) * back[i, kinks]
        wish = torch.linalg.lstsq(gain, -push[:, None]).solution[:, 0]
        low = push + gain @ torch.full_like(wish, left)
        high = push + gain @ torch.full_like(wish, right)
        holds = (wish > min(left, right)) & (wish < max(left, right)) & (high < low)
        # not held: leave towards the side on which the flow goes on in the same direction
        leave = torch.where(high > 0, right, torch.where(low < 0, left, 0.5 * (left + right)))
        slopes[i, kinks] = torch.where(holds, wish, leave)
        sliding[i, kinks] = holds
    return slopes, sliding


def _force(w: Tensor, x: Tensor, residual: Tensor, act: Activation, slopes: Tensor) -> Tensor:
    m0 = len(x)
    back = (slopes * (w[:, m0:] @ residual)) @ x.mT
    return torch.cat([back, act(w[:, :m0] @ x) @ residual.mT], dim=1)


def _settle(
    w: Tensor, slopes: Tensor, sliding: Tensor, objective: Objective, residual: Tensor
) -> tuple[Tensor, bool]:
    """The exact resting direction in the cell (and on the kinks) of one unit, if it is near."""
    x = objective.problem.inputs
    m0 = len(x)
    force = (x * torch.where(sliding, 0.0, slopes)) @ residual.mT
    if bool(sliding.any()):
        basis = torch.linalg.qr(x[:, sliding])[0]
        force = force - basis @ (basis.mT @ force)
    p, rates, q = objective.svd(force)
    pair = torch.cat([p[:, 0], q[0]]) / 2**0.5
    pair = pair if float(pair @ w) >= 0 else -pair
    same = torch.sign(pair[:m0] @ x) == torch.sign(w[:m0] @ x)
    near = float(pair @ w) > 0.95 and bool((same | sliding).all()) and float(rates[0]) > 0
    return pair, near


def follow_sleepers(
    units: Float[Tensor, "s coordinate"],
    objective: Objective,
    state: State,
    *,
    max_steps: int = 300,
    length: float = 0.25,
    tolerance: float = 1e-6,
) -> Followed:
    """Follow each sleeping unit's direction to where its growth rate settles.

    The direction moves by at most `length` of its normalised force a step (a change of time of
    the flow, so basins are kept), stops at the first kink on its way, and slides or crosses in
    the next step. Every fifth step the exact resting direction of the unit's cell is taken if
    the unit is within 18 degrees of it. Dead units keep rate 0.
    One step of all units counts as one gradient evaluation.
    """
    act, x = objective.activation, objective.problem.inputs
    m0 = len(x)
    residual = objective.residual(state)
    scale = float(torch.linalg.matrix_norm(x @ residual.mT, 2)) + 1e-300
    w = units / units.norm(dim=1, keepdim=True)
    settled = torch.zeros(len(w), dtype=torch.bool)
    for step in range(max_steps):
        moving = (~settled).nonzero()[:, 0]
        if len(moving) == 0:
            break
        objective.gradients += 1
        v = w[moving]
        slopes, sliding = _slopes(v, x, residual, act)
        force = _force(v, x, residual, act, slopes)
        across = force - (v * force).sum(1, keepdim=True) * v
        done = across.norm(dim=1) <= tolerance * scale
        if step % 5 == 4:
            for k in (~done).nonzero()[:, 0].tolist():
                pair, near = _settle(v[k], slopes[k], sliding[k], objective, residual)
                if near:
                    v[k], done[k] = pair, True
        move = length * force / force.norm(dim=1, keepdim=True).clamp(min=1e-300)
        z, dz = v[:, :m0] @ x, move[:, :m0] @ x
        off = z.abs() > ON_KINK * x.norm(dim=0)
        until = torch.where(off & (z * dz < 0), -z / dz, torch.inf)
        first, which = until.min(1)
        moved = v + move * first.clamp(max=1.0)[:, None]
        for k in (first <= 1.0).nonzero()[:, 0].tolist():  # exactly on the kink
            normal = x[:, which[k]]
            moved[k, :m0] -= normal * (moved[k, :m0] @ normal) / normal.square().sum()
        moved = moved / moved.norm(dim=1, keepdim=True)
        w[moving] = torch.where(done[:, None], v, moved)
        settled[moving] = done
    slopes, _ = _slopes(w, x, residual, act)
    return Followed(w, (w * _force(w, x, residual, act, slopes)).sum(1))
