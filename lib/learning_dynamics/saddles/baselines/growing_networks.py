"""What the growing baselines share: a new unit, then descent among all units, again and again.

`descent` in a signature: the keyword arguments of `grow`.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from learning_dynamics.activations import Activation
from learning_dynamics.kernels.weights import unit_force
from learning_dynamics.losses import Loss
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import check_integer, check_positive, normal
from learning_dynamics.saddles.skipping.active_descent import gradient_phase
from learning_dynamics.saddles.skipping.dormant_units import (
    DormantModes,
    balance,
    follow_dormant,
    pair_of_linear_unit,
)
from learning_dynamics.saddles.skipping.objective import Objective, Path, add_unit, no_units
from learning_dynamics.saddles.two_layer import State, Weights

__all__ = [
    "alternating_flows",
    "gradmax",
    "greedy_low_rank",
    "greedy_steps",
    "grow",
    "neuron_pursuit",
    "tiny",
]

#: The unit to add at a state, (m0 + m2,) at its full size, or None to stop; with it f after
#: adding it, if the choice has evaluated that (the descent then starts from there at no cost).
Choice = Callable[[State], Tensor | tuple[Tensor, Tensor] | None]


def grow(
    objective: Objective,
    choose: Choice,
    *,
    width: int,
    step_size: float,
    tolerance: float,
    max_steps: int = 20_000,
    stop_loss: float | None = None,
) -> Path:
    """Add `choose(state)`, run gradient descent to |gradient| <= tolerance, repeat.

    Stops when nothing is chosen ("no unit": no proof of a minimum), at `width` units, at a loss
    <= stop_loss after a descent, or
    when `max_steps` gradient evaluations are spent. The ends of descents are called saddles.
    """
    weights = no_units(objective.problem)
    state = objective(weights)
    status = "width"
    while True:
        objective.record(state, saddle=True)
        if stop_loss is not None and float(state.loss) <= stop_loss:
            status = "loss"
            break
        if objective.gradients >= max_steps:
            status = "steps"
            break
        if weights.w1.shape[0] >= width:
            break
        chosen = choose(state)
        if chosen is None:
            status = "no unit"
            break
        unit, known = chosen if isinstance(chosen, tuple) else (chosen, None)
        weights = add_unit(weights, unit)
        done = gradient_phase(
            weights,
            objective,
            step_size=step_size,
            tolerance=tolerance,
            max_steps=max(1, max_steps - objective.gradients),
            known=known,
        )
        weights, state = done.weights, done.state
    return objective.path(weights, status)


def gradmax(
    problem: Problem,
    *,
    size: float = 1.0,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    least_rate: float = 1e-6,
    **descent: Any,
) -> Path:
    """New unit (0, size q), q the output side of the top pair: it maximises the next gradient.

    Same matrix as the escape direction; half of the unit's square lies along it, so that it
    escapes as well, later by log(sqrt 2)/rate for a small size. The linear part of the
    activation is used for the choice.
    """
    check_positive("size", size)
    objective = Objective(problem, activation=activation, loss=loss)
    m0 = problem.inputs.shape[-2]

    def choose(state: State) -> torch.Tensor | None:
        pair, rates = pair_of_linear_unit(objective, state)
        if float(rates[0]) <= least_rate:
            return None
        return torch.cat([torch.zeros_like(pair[:m0]), size * 2**0.5 * pair[m0:]])

    return grow(objective, choose, **descent)


def tiny(
    problem: Problem,
    *,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    least_rate: float = 1e-6,
    **descent: Any,
) -> Path:
    """New unit (Sxx^(-1/2) u, v), u and v the top singular pair of Sxx^(-1/2) X R', line searched.

    With squared loss and a linear net one unit at its exact size is the rank-1 reduced-rank
    regression of the residual: repeating gives every level without any descent. Nonlinear nets:
    the unit is chosen through its linear part, then its size by line search.
    """
    objective = Objective(problem, activation=activation, loss=loss)
    x = problem.inputs
    values, vectors = torch.linalg.eigh(x @ x.mT / x.shape[-1])
    keep = values > 1e-12 * values[-1]
    whiten = (vectors[:, keep] / values[keep].sqrt()) @ vectors[:, keep].mT
    objective.svds += 1

    def choose(state: State) -> tuple[torch.Tensor, torch.Tensor] | None:
        force = x @ objective.residual(state).mT
        if float(torch.linalg.matrix_norm(force)) <= least_rate:
            return None
        u, _, v = objective.svd(whiten @ force)
        a, b = whiten @ u[:, 0], v[0]
        # the activation decides which sign of a, and then of b, helps most
        gains = objective.activation(torch.stack([a, -a]) @ x) @ objective.residual(state).mT @ b
        side = int(gains.abs().argmax())
        if float(gains[side].abs()) <= least_rate:
            return None
        a = (1 - 2 * side) * a / a.norm()
        b = b * float(gains[side].sign())
        unit = torch.cat([a, b]) / 2**0.5
        found = balance(unit, objective, state)
        return None if found is None else (found.size * unit, found.outputs)

    return grow(objective, choose, **descent)


def greedy_low_rank(
    problem: Problem,
    *,
    scale: float = 1e-6,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    least_rate: float = 1e-6,
    **descent: Any,
) -> Path:
    """From [U(inf), sqrt(scale) u] with u the top pair of the end-to-end gradient, to the limit.

    The limit is scale -> 0 of gradient flow; here a small scale and steps of step_size.
    tolerance in loss/weight ends a stage; least_rate ends the method.
    """
    check_positive("scale", scale)
    objective = Objective(problem, activation=activation, loss=loss)

    def choose(state: State) -> torch.Tensor | None:
        pair, rates = pair_of_linear_unit(objective, state)
        return None if float(rates[0]) <= least_rate else scale**0.5 * pair

    return grow(objective, choose, **descent)


def greedy_steps(
    problem: Problem,
    *,
    width: int,
    step_size: float,
    scale: float = 1e-2,
    steps: int = 200,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    least_rate: float = 1e-6,
    max_steps: int = 20_000,
    stop_loss: float | None = None,
) -> Path:
    """Add epsilon = `scale` times the top pair of the gradient, T = `steps` steps, repeat.

    Nothing tests whether a saddle is reached: T alone decides.
    """
    check_positive("scale", scale)
    check_integer("steps", steps, least=1)
    objective = Objective(problem, activation=activation, loss=loss)
    weights = no_units(problem)
    state = objective(weights)
    objective.record(state, saddle=True)
    status = "width"
    while weights.w1.shape[0] < width:
        pair, rates = pair_of_linear_unit(objective, state)
        if float(rates[0]) <= least_rate:
            status = "no unit"
            break
        weights = add_unit(weights, scale * pair)
        for _ in range(steps):
            state = objective(weights)
            objective.record(state)
            g = state.gradients
            weights = Weights(weights.w1 - step_size * g.w1, weights.w2 - step_size * g.w2)
        state = objective(weights)
        objective.record(state, saddle=True)
        if stop_loss is not None and float(state.loss) <= stop_loss:
            status = "loss"
            break
        if objective.gradients >= max_steps:
            status = "steps"
            break
    return objective.path(weights, status)


def _drawing(problem: Problem, generator: torch.Generator) -> Callable[[int], Tensor]:
    """A function that draws that many Gaussian units, where the problem is."""
    x, length = problem.inputs, problem.inputs.shape[-2] + problem.targets.shape[-2]
    return lambda count: normal(count, length, generator=generator, dtype=x.dtype, device=x.device)


def neuron_pursuit(
    problem: Problem,
    *,
    generator: torch.Generator,
    size: float = 0.1,
    starts: int = 16,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    least_rate: float = 1e-6,
    **descent: Any,
) -> Path:
    """Maximise the neural correlation from `starts` fresh random directions, insert `size` u.

    Homogeneous activations. Any direction may be chosen, also one that gradient descent's own
    dormant units would never take.
    """
    check_positive("size", size)
    check_integer("starts", starts, least=1)
    objective = Objective(problem, activation=activation, loss=loss)
    if not objective.activation.homogeneous:
        raise ValueError(f"activation = {objective.activation.name!r}: must be homogeneous")
    drawn = _drawing(problem, generator)

    def choose(state: State) -> torch.Tensor | None:
        fresh = drawn(starts)
        found = follow_dormant(fresh, objective, state)
        rates = found.rates[:, 0]
        best = int(rates.argmax())
        return None if float(rates[best]) <= least_rate else size * found.directions[best]

    return grow(objective, choose, **descent)


def alternating_flows(
    problem: Problem,
    *,
    width: int,
    generator: torch.Generator,
    init_scale: float = 1e-8,
    size: float = 0.1,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    max_steps: int = 20_000,
    **descent: Any,
) -> Path:
    """Directions of `width` dormant units climb their utility until one has accumulated
    log(1/init_scale); that unit is inserted at `size`; then gradient descent on the active ones.

    Linear nets: the paper's closed recursion of waiting times and modes, which knows no scale
    (`DormantModes`). Others: the utility flow is stepped by 1/2 over the norm of the end-to-end
    gradient (one evaluation a step for all dormant units): its cost grows as log(1/init_scale).
    Homogeneous activations of degree 1.
    """
    check_positive("init_scale", init_scale)
    check_positive("size", size)
    objective = Objective(problem, activation=activation, loss=loss)
    act, x = objective.activation, problem.inputs
    if not act.homogeneous:
        raise ValueError(f"activation = {act.name!r}: must be homogeneous")
    drawn = _drawing(problem, generator)
    units = drawn(width)
    units = units / units.norm(dim=1, keepdim=True)
    grown = x.new_zeros(width)
    threshold = math.log(1 / init_scale)
    modes = DormantModes(width)

    def choose(state: State) -> Tensor | None:
        nonlocal units, grown
        residual = objective.residual(state)
        rate = float(torch.linalg.matrix_norm(x @ residual.mT, 2))
        if rate <= 1e-6 or len(units) == 0:
            return None
        if act.negative_slope == 1:
            found = modes.next(objective, state, 1e-6 * objective.largest_rate(state))
            return None if found is None else size * found.direction
        step = 0.5 / rate
        while objective.gradients < max_steps:
            objective.gradients += 1
            push = unit_force(units, x, residual, act)
            grown = grown + step * (units * push).sum(1)
            units = units + step * push
            units = units / units.norm(dim=1, keepdim=True)
            if float(grown.max()) >= threshold:
                chosen = int(grown.argmax())
                unit = size * units[chosen]
                keep = units @ units[chosen] < 1 - 1e-3  # the chosen unit's twins join it
                units, grown = units[keep], grown[keep]
                return unit
        return None

    return grow(objective, choose, width=width, max_steps=max_steps, **descent)
