"""What the growing baselines share: a new unit, then descent among all units, again and again.

`descent` in a signature: the keyword arguments of `grow`. `least_rate`: where no unit grows faster,
none is added.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from learning_dynamics.activations import Activation
from learning_dynamics.activations import activation as find_activation
from learning_dynamics.kernels.weights import unit_force
from learning_dynamics.losses import Loss
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import check_integer, check_positive, normal
from learning_dynamics.saddles.baselines.optimizers import moved
from learning_dynamics.saddles.skipping.active_descent import gradient_phase
from learning_dynamics.saddles.skipping.dormant_units import (
    DormantModes,
    balance,
    follow_dormant,
    pair_of_linear_unit,
)
from learning_dynamics.saddles.skipping.objective import Objective, Path, add_unit, no_units
from learning_dynamics.saddles.two_layer import State

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
Choice = Callable[[Objective, State], Tensor | tuple[Tensor, Tensor] | None]


def grow(
    problem: Problem,
    choose: Choice,
    *,
    width: int,
    step_size: float,
    tolerance: float = 0.0,
    steps: int | None = None,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    max_steps: int = 20_000,
    stop_loss: float | None = None,
) -> Path:
    """Add `choose(objective, state)`, run gradient descent to |gradient| <= tolerance, repeat.

    steps : of each descent, instead of a tolerance.
    Stops when nothing is chosen ("no unit": no proof of a minimum), at `width` units, at a loss
    <= stop_loss after a descent, or when `max_steps` gradient evaluations are spent. The ends of
    descents are called saddles.
    """
    objective = Objective(problem, activation=activation, loss=loss)
    weights = no_units(problem)
    state = objective(weights)
    while True:
        objective.record(state, saddle=True)
        if stop_loss is not None and float(state.loss) <= stop_loss:
            return objective.path(weights, "loss")
        if objective.gradients >= max_steps:
            return objective.path(weights, "steps")
        if weights.w1.shape[0] >= width:
            return objective.path(weights, "width")
        chosen = choose(objective, state)
        if chosen is None:
            return objective.path(weights, "no unit")
        unit, known = chosen if isinstance(chosen, tuple) else (chosen, None)
        weights = add_unit(weights, unit)
        if steps is None:
            most = max(1, max_steps - objective.gradients)
            options: dict[str, Any] = {"step_size": step_size, "max_steps": most, "known": known}
            done = gradient_phase(weights, objective, tolerance=tolerance, **options)
            weights, state = done.weights, done.state
            continue
        for _ in range(steps):
            state = objective(weights)
            objective.record(state)
            weights = moved(weights, state.gradients, step_size)
        state = objective(weights)


def _top_pair(least_rate: float, scaled: Callable[[Tensor, int], Tensor]) -> Choice:
    """The escape direction of a linear unit, as `scaled` makes of it and of m0."""

    def choose(objective: Objective, state: State) -> Tensor | None:
        pair, rates = pair_of_linear_unit(objective, state)
        few = float(rates[0]) <= least_rate
        return None if few else scaled(pair, objective.problem.inputs.shape[-2])

    return choose


def gradmax(
    problem: Problem, *, size: float = 1.0, least_rate: float = 1e-6, **descent: Any
) -> Path:
    """New unit (0, size q), q the output side of the top pair: it maximises the next gradient.

    Same matrix as the escape direction; half of the unit's square lies along it, so that it
    escapes as well, later by log(sqrt 2)/rate for a small size. The linear part of the
    activation is used for the choice.
    """
    check_positive("size", size)

    def outgoing(pair: Tensor, m0: int) -> Tensor:
        return torch.cat([torch.zeros_like(pair[:m0]), size * 2**0.5 * pair[m0:]])

    return grow(problem, _top_pair(least_rate, outgoing), **descent)


def greedy_low_rank(
    problem: Problem, *, scale: float = 1e-6, least_rate: float = 1e-6, **descent: Any
) -> Path:
    """From [U(inf), sqrt(scale) u] with u the top pair of the end-to-end gradient, to the limit.

    The limit is scale -> 0 of gradient flow; here a small scale and steps of step_size.
    tolerance in loss/weight ends a stage; least_rate ends the method.
    """
    check_positive("scale", scale)
    return grow(problem, _top_pair(least_rate, lambda pair, _: scale**0.5 * pair), **descent)


def greedy_steps(
    problem: Problem,
    *,
    scale: float = 1e-2,
    steps: int = 200,
    least_rate: float = 1e-6,
    **descent: Any,
) -> Path:
    """Add epsilon = `scale` times the top pair of the gradient, T = `steps` steps, repeat.

    Nothing tests whether a saddle is reached: T alone decides.
    """
    check_positive("scale", scale)
    check_integer("steps", steps, least=1)
    choose = _top_pair(least_rate, lambda pair, _: scale * pair)
    return grow(problem, choose, steps=steps, **descent)


def tiny(problem: Problem, *, least_rate: float = 1e-6, **descent: Any) -> Path:
    """New unit (Sxx^(-1/2) u, v), u and v the top singular pair of Sxx^(-1/2) X R', line searched.

    With squared loss and a linear net one unit at its exact size is the rank-1 reduced-rank
    regression of the residual: repeating gives every level without any descent. Nonlinear nets:
    the unit is chosen through its linear part, then its size by line search.
    """
    x = problem.inputs
    values, vectors = torch.linalg.eigh(x @ x.mT / x.shape[-1])
    keep = values > 1e-12 * values[-1]
    whiten = (vectors[:, keep] / values[keep].sqrt()) @ vectors[:, keep].mT

    def choose(objective: Objective, state: State) -> tuple[Tensor, Tensor] | None:
        objective.svds += len(state.weights.w1) == 0  # that of the inputs, above
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

    return grow(problem, choose, **descent)


def _drawing(problem: Problem, generator: torch.Generator) -> Callable[[int], Tensor]:
    """A function that draws that many Gaussian units, where the problem is."""
    x, length = problem.inputs, problem.inputs.shape[-2] + problem.targets.shape[-2]
    return lambda count: normal(count, length, generator=generator, dtype=x.dtype, device=x.device)


def _homogeneous(name: str | Activation) -> Activation:
    act = find_activation(name)
    if not act.homogeneous:
        raise ValueError(f"activation = {act.name!r}: must be homogeneous")
    return act


def neuron_pursuit(
    problem: Problem,
    *,
    generator: torch.Generator,
    size: float = 0.1,
    starts: int = 16,
    activation: str | Activation = "linear",
    least_rate: float = 1e-6,
    **descent: Any,
) -> Path:
    """Maximise the neural correlation from `starts` fresh random directions, insert `size` u.

    Homogeneous activations. Any direction may be chosen, also one that gradient descent's own
    dormant units would never take.
    """
    check_positive("size", size)
    check_integer("starts", starts, least=1)
    act, drawn = _homogeneous(activation), _drawing(problem, generator)

    def choose(objective: Objective, state: State) -> Tensor | None:
        found = follow_dormant(drawn(starts), objective, state)
        best = int(found.rates[:, 0].argmax())
        none = float(found.rates[best, 0]) <= least_rate
        return None if none else size * found.directions[best]

    return grow(problem, choose, activation=act, **descent)


def alternating_flows(
    problem: Problem,
    *,
    width: int,
    generator: torch.Generator,
    init_scale: float = 1e-8,
    size: float = 0.1,
    activation: str | Activation = "linear",
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
    act, x = _homogeneous(activation), problem.inputs
    units = _drawing(problem, generator)(width)
    units = units / units.norm(dim=1, keepdim=True)
    grown = x.new_zeros(width)
    modes = DormantModes(width)

    def choose(objective: Objective, state: State) -> Tensor | None:
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
            if float(grown.max()) >= math.log(1 / init_scale):
                chosen = int(grown.argmax())
                unit = size * units[chosen]
                keep = units @ units[chosen] < 1 - 1e-3  # the chosen unit's twins join it
                units, grown = units[keep], grown[keep]
                return unit
        return None

    return grow(problem, choose, width=width, activation=act, max_steps=max_steps, **descent)
