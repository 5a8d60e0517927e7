"""Which unit becomes active next: dormant units of a net started at infinitesimal scale.

A dormant unit has size epsilon^p with its own exponent p (1 at the start). During a plateau
that lasts waiting * log(1/epsilon) units of time a unit that grows at rate r goes from p to
p - r * waiting; the unit whose exponent reaches zero first becomes active. Only exponents and
directions are kept, so that nothing here depends on epsilon.
"""

import math
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.kernels.weights import unit_force
from learning_dynamics.saddles.skipping.clarke import near_kinks, normal_space, resolve_kinks
from learning_dynamics.saddles.skipping.objective import Objective, add_unit
from learning_dynamics.saddles.two_layer import State, Weights

__all__ = [
    "Balance",
    "DormantCoordinates",
    "DormantModes",
    "DormantUnits",
    "Escape",
    "Followed",
    "balance",
    "follow_dormant",
    "pair_of_linear_unit",
]


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
    """Escape direction (p, q)/sqrt 2 of a dormant unit with slope sigma'(0), and all rates.

    p, q : top singular pair of sigma'(0) X R'. rates : its singular values, growth per unit
    time, in descending order. Exact for linear nets; for smooth activations with sigma(0) = 0
    a unit is linear while it is dormant. Costs one SVD of an (m0, m2) matrix.
    """
    slope = objective.activation.derivative(state.loss.new_zeros(()))
    x = objective.problem.inputs
    p, rates, q = objective.svd(slope * (x @ objective.residual(state).mT))
    return torch.cat([p[:, 0], q[0]]) / 2**0.5, rates


def _linear_escape(
    objective: Objective, state: State, least: float
) -> tuple[Tensor, Tensor] | None:
    """`pair_of_linear_unit` among the maps that the active units do not span, at a saddle of a
    linear net; None if what is left is below the share that `least` is of the largest rate.

    That share is taken in whitened inputs: in others a feature in large units hides the rest.
    """
    white, w = objective.whitened(), state.weights
    force = white.objective.problem.inputs @ objective.residual(state).mT
    if len(w.w1):
        force = force - normal_space((w.w1 @ white.into).mT) @ force
        force = force - force @ normal_space(w.w2)
    share = least / (objective.largest_rate(state) or 1.0)
    if float(force.norm()) <= share * white.objective.largest_rate(state):
        return None
    p, rates, q = objective.svd(white.into @ force)
    return torch.cat([p[:, 0], q[0]]) / 2**0.5, rates


def balance(
    direction: Float[Tensor, " coordinate"],
    objective: Objective,
    state: State,
    *,
    hidden: Float[Tensor, " n"] | None = None,
) -> Balance | None:
    """The size rho of a unit rho * direction at which the loss stops falling; None if it does not
    fall along it (a rate that is a rounding error).

    With u = q sigma(p X), t = rho^2/2 and L(f + t u): dL/dt = -sigma at t = 0 and
        L = L* - sigma rho^2/2 + kappa rho^4/8 + ...,  kappa = d^2L/dt^2,
    the fall of the quadratic term is stopped by the quartic one at rho^2 = 2 sigma/kappa
    (exact for the squared loss). Found by a safeguarded secant method in t from the Lipschitz
    constant of the loss; each trial counts as one gradient evaluation. If the loss falls without
    end along u (separable classes) the largest trial is returned. Smooth activations: u is
    taken linear, q sigma'(0) p X, and rho is halved until the loss falls.
    hidden : sigma(p X), where the caller's differs (in the activation cell of another unit).
    """
    x = objective.problem.inputs
    act = objective.activation
    p, q = 2**0.5 * direction[: len(x)], 2**0.5 * direction[len(x) :]
    h = act(p @ x) if act.homogeneous else act.derivative(x.new_zeros(())) * (p @ x)
    h = h if hidden is None else 2**0.5 * hidden
    u = q[:, None] * h[None, :]
    slope = float(-(objective.residual(state) * u).sum())
    if slope >= 0:
        return None
    square = float(u.square().sum()) / x.shape[-1]
    low, slope_low, high = 0.0, slope, None
    t = -slope / ((objective.loss.lipschitz or 1.0) * square)
    for _ in range(30):
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
    for _ in range(0 if act.homogeneous else 60):
        unit = rho * direction
        extra = unit[len(x) :, None] * act(unit[: len(x)] @ x)[None, :]
        outputs = state.outputs + extra
        value, _ = objective.output_gradient(outputs)
        if value < float(state.loss):
            break
        rho *= 0.5
    return Balance(rho, max(curvature, 1e-12), outputs)


@dataclass(frozen=True)
class Followed:
    """Where dormant units settle: unit directions (s, m0+m2) and growth rates (s, modes), those of
    the unit itself first, then the lower singular values of its cell."""

    directions: Float[Tensor, "s coordinate"]
    rates: Float[Tensor, "s modes"]


def _modes(objective: Objective, slopes: Tensor, held: Tensor, back: Tensor) -> tuple[Tensor, ...]:
    """Singular triples of X D R' in one cell, within the kinks that are held."""
    x = objective.problem.inputs
    force = (x * torch.where(held, 0.0, slopes)) @ back.mT
    if bool(held.any()):
        force = force - normal_space(x[:, held]) @ force
    return objective.svd(force)


def follow_dormant(
    units: Float[Tensor, "s coordinate"],
    objective: Objective,
    state: State,
    *,
    max_steps: int = 300,
    length: float = 0.25,
    tolerance: float = 1e-6,
) -> Followed:
    """Follow each dormant unit's direction to where its growth rate settles.

    The direction moves by at most `length` of its normalised force a step (a change of time of
    the flow, so basins are kept), stops at the first kink on its way, and slides or crosses in
    the next step. Every fifth step the exact resting direction of the unit's cell is taken if
    the unit is within 18 degrees of it. Dead units keep rate 0.
    tolerance is a share of the largest rate there is: below it a force is taken for zero.
    One step of all units counts as one gradient evaluation.
    """
    act, x = objective.activation, objective.problem.inputs
    m0 = len(x)
    residual = objective.residual(state)
    scale = objective.largest_rate(state)
    w = units / units.norm(dim=1, keepdim=True)
    rates = x.new_zeros(len(w), min(m0, len(residual)))
    settled = torch.zeros(len(w), dtype=torch.bool)
    for step in range(max_steps):
        moving = (~settled).nonzero()[:, 0]
        if len(moving) == 0:
            break
        objective.gradients += 1
        v = w[moving]
        on = near_kinks(v[:, :m0], x)
        kinks = resolve_kinks(v, x, -residual, act, on)
        force = unit_force(v, x, residual, act, kinks.slopes)
        across = force - (v * force).sum(1, keepdim=True) * v
        done = across.norm(dim=1) <= tolerance * scale
        for k in range(len(v)) if step % 5 == 4 else done.nonzero()[:, 0].tolist():
            p, values, q = _modes(objective, kinks.slopes[k], kinks.held[k], residual)
            pair = torch.cat([p[:, 0], q[0]]) / 2**0.5
            pair = pair if float(pair @ v[k]) >= 0 else -pair
            same = torch.sign(pair[:m0] @ x) == torch.sign(v[k, :m0] @ x)
            inside = bool((same | on[k] & kinks.held[k]).all())
            if float(pair @ v[k]) > 0.95 and inside and float(values[0]) > 0:
                v[k], done[k], force[k] = pair, True, values[0] * pair
            if done[k] and bool(on[k].any()) and not bool(kinks.slopes[k].any()):
                v[k, :m0] -= 1e-3 * (x[:, on[k]] / x[:, on[k]].norm(dim=0)).sum(1)  # a finite step
            if done[k]:  # ends beyond the kink at which the unit dies
                rates[moving[k]] = values
                rates[moving[k], 0] = v[k] @ force[k]
        move = length * force / force.norm(dim=1, keepdim=True).clamp(min=1e-300)
        z, dz = v[:, :m0] @ x, move[:, :m0] @ x
        until = torch.where(~on & (z * dz < 0), -z / dz, torch.inf)
        first, which = until.min(1)
        moved = v + move * first.clamp(max=1.0)[:, None]
        for k in (first <= 1.0).nonzero()[:, 0].tolist():  # exactly on the kink
            normal = x[:, which[k]]
            moved[k, :m0] -= normal * (moved[k, :m0] @ normal) / normal.square().sum()
        moved = moved / moved.norm(dim=1, keepdim=True)
        w[moving] = torch.where(done[:, None], v, moved)
        settled[moving] = done
    return Followed(w, rates)


@dataclass(frozen=True)
class Escape:
    """The unit that leaves a saddle.

    direction : (p, q)/sqrt 2, unit vector of length m0 + m2.
    rate      : growth per unit time. second : rate of the runner-up, 0 if there is none.
    waiting   : length of the plateau in units of log(1/epsilon), time units.
    splits    : the active unit whose copies part along `direction`; None for a dormant unit.
    hidden    : sigma(a X) of `direction` (in the cell of `splits`).
    """

    direction: Float[Tensor, " coordinate"]
    rate: float
    second: float
    waiting: float
    splits: int | None = None
    hidden: Float[Tensor, " n"] | None = None

    @property
    def tied(self) -> bool:
        """No gap: which of the two becomes active depends on the start, not on the problem."""
        return self.second >= (1 - 1e-6) * self.rate


def _finite_step(rates: Tensor, step_size: float | None) -> Tensor:
    """log(1 + eta r)/eta, the growth per unit time of a finite step; r for the flow."""
    return rates if step_size is None else torch.log1p(step_size * rates) / step_size


class Dormant:
    """What every kind of dormant units is asked beside its next escape: to keep account of it."""

    def activate(self, weights: Weights, escape: Escape, size: float) -> Weights:
        """The net with the new unit at this size."""
        return add_unit(weights, size * escape.direction)

    def activated(self, escape: Escape) -> None:
        """The new unit is the last of the net."""

    def removed(self, units: Float[Tensor, "k coordinate"], gone: Tensor) -> None:
        """The active units marked by `gone` (k,) have become dormant."""


@dataclass
class DormantModes(Dormant):
    """Dormant units of a linear net (or a smooth one: linear while dormant), generic start.

    Hidden rotations mix the units, so one keeps the exponents of the ordered singular values of
    S: p_j <- p_{j+1} - r_{j+1} waiting, with waiting = p_1/r_1 (background: the recursion of
    the staircase, found here along the way).
    """

    width: int
    step_size: float | None = None
    exponents: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.exponents = torch.ones(self.width, dtype=torch.float64)

    def next(self, objective: Objective, state: State, least: float) -> Escape | None:
        """The escape from the saddle `state`; None if no rate exceeds `least`."""
        if len(self.exponents) == 0:
            return None
        linear = objective.activation.name == "linear"
        found = (
            _linear_escape(objective, state, least)
            if linear
            else pair_of_linear_unit(objective, state)
        )
        if found is None or float(found[1][0]) <= (0 if linear else least):
            return None
        direction, singular = found
        second = float(singular[1]) if len(singular) > 1 else 0.0
        rates = torch.zeros_like(self.exponents)
        count = min(len(rates), len(singular))
        rates[:count] = _finite_step(singular[:count].double(), self.step_size)
        waiting = float(self.exponents[0].clamp(min=0) / rates[0])
        self.exponents = self.exponents[1:] - rates[1:] * waiting
        return Escape(direction, float(singular[0]), second, waiting)

    def removed(self, units: Float[Tensor, "k coordinate"], gone: Tensor) -> None:
        """They join the others with exponent 0."""
        self.exponents = torch.cat([self.exponents.new_zeros(int(gone.sum())), self.exponents])


@dataclass
class DormantUnits(Dormant):
    """Units under a piecewise linear activation: dormant ones, and copies of active ones.

    A dormant unit has a direction and the exponents of its cell's modes: p_1 is its own, the
    others say how far its copies agree. Units that become active together are copies; inside their
    cell they are a linear net, whose next mode has the exponent p_2 and grows at sigma_1(X D R'):
    then the copies part.

    units : (s, m0+m2) start directions; only directions count.
    choice : "gradient_descent", the unit that plain gradient descent activates first, each unit
        following its own direction; "best", the largest rate that any start can reach (the
        given ones start anew at every saddle).
    copies, modes : of each active unit; exponents of the modes that may split it.
    """

    units: Float[Tensor, "s coordinate"]
    modes_of_a_cell: int
    choice: str = "gradient_descent"
    step_size: float | None = None
    exponents: Tensor = field(init=False)
    copies: list[int] = field(default_factory=list)
    modes: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.exponents = torch.ones(len(self.units), self.modes_of_a_cell, dtype=torch.float64)
        self._start = self.units

    def _cells(self, objective: Objective, state: State) -> list[tuple[list[int], Tensor, Escape]]:
        """Active units that share a cell and have copies left: who, all rates, the first escape."""
        x, units = objective.problem.inputs, state.weights.units
        m0, residual = len(x), objective.residual(state)
        on = near_kinks(units[:, :m0], x, 1e-9)
        kinks = resolve_kinks(units, x, -residual, objective.activation, on)
        groups: dict[bytes, list[int]] = {}
        for i, key in enumerate(torch.where(kinks.held, 2.0, kinks.slopes)):
            groups.setdefault(key.numpy().tobytes(), []).append(i)
        found = []
        for members in groups.values():
            if sum(self.copies[i] for i in members) <= len(members):
                continue
            own = torch.where(kinks.held[members[0]], 0.0, kinks.slopes[members[0]])
            force = (x * own) @ residual.mT
            across = torch.cat([x[:, kinks.held[members[0]]], units[members, :m0].mT], dim=1)
            force = force - normal_space(across) @ force
            force = force - force @ normal_space(units[members, m0:].mT)
            p, rates, q = objective.svd(force)
            direction = torch.cat([p[:, 0], q[0]]) / 2**0.5
            split = max(members, key=lambda i: self.copies[i])
            hidden = own * (direction[:m0] @ x)
            escape = Escape(direction, float(rates[0]), 0.0, math.inf, split, hidden)
            found.append((members, rates, escape))
        return found

    def next(self, objective: Objective, state: State, least: float) -> Escape | None:
        """The escape from the saddle `state`; None if no rate exceeds `least`."""
        best = self.choice == "best"
        starts = self._start if best else self.units
        followed = follow_dormant(starts, objective, state)
        cells = self._cells(objective, state)
        rates = _finite_step(followed.rates.double(), self.step_size)
        escapes = [
            Escape(w, float(r[0]), 0.0, float(p[0] / f[0]))
            for w, r, f, p in zip(
                followed.directions,
                followed.rates,
                rates,
                torch.ones_like(rates) if best else self.exponents,
                strict=True,
            )
            if float(r[0]) > least
        ]
        for members, values, escape in cells:
            mode = self._mode(members)
            if escape.rate > least and len(mode):
                growth = float(_finite_step(values[:1].double(), self.step_size))
                escapes.append(replace(escape, waiting=float(mode[0]) / growth))
        if not escapes:
            return None
        first = max(e.rate for e in escapes) if best else min(e.waiting for e in escapes)
        tied = [
            e
            for e in escapes
            if (e.rate >= (1 - 1e-9) * first if best else e.waiting <= (1 + 1e-9) * first)
        ]
        chosen = max(tied, key=lambda e: (round(e.rate / tied[0].rate, 6), e.direction.tolist()))
        other = [e.rate for e in escapes if float(e.direction @ chosen.direction) < 1 - 1e-6]
        chosen = replace(chosen, second=max(other, default=0.0))
        if not best:
            self.units = followed.directions
            self._wait(chosen, rates, cells)
        return chosen

    def _mode(self, members: list[int]) -> Tensor:
        """Exponents of a cell's modes, the smallest that one of its units has; those that its
        units span already are left out."""
        return torch.stack([self.modes[i] for i in members]).amin(0)[len(members) - 1 :]

    def _wait(self, chosen: Escape, rates: Tensor, cells: list) -> None:
        """All exponents after the plateau that `chosen` ends."""
        self.exponents = (self.exponents - rates * chosen.waiting).clamp(min=0).sort(1).values
        for members, values, _ in cells:
            mode = self._mode(members)
            growth = _finite_step(values[: len(mode)].double(), self.step_size)
            mode = torch.nn.functional.pad(growth, (0, len(mode) - len(growth)))
            mode = (self._mode(members) - mode * chosen.waiting).clamp(min=0)
            if chosen.splits in members:
                mode[0] = 0.0
            spanned = mode.new_zeros(self.modes_of_a_cell - 1 - len(mode))
            for i in members:
                self.modes[i] = torch.cat([spanned, mode]).sort().values

    def activated(self, escape: Escape) -> None:
        """Its copies become active with it, or a unit's copies go to its two halves."""
        if escape.splits is not None:
            self.divide(escape.splits)
        elif self.choice == "best":
            self.copies.append(1)
            self.modes.append(self.exponents.new_zeros(self.modes_of_a_cell - 1))
        else:
            same = (self.units @ escape.direction >= 1 - 1e-6) & (self.exponents[:, 0] <= 1e-6)
            self.copies.append(int(same.sum()))
            self.modes.append(self.exponents[same, 1:].amin(0))
            self.units, self.exponents = self.units[~same], self.exponents[~same]

    def divide(self, *units: int) -> None:
        """The copies of active units go to their two halves; the second ones are the last units."""
        for unit in units:
            half = self.copies[unit] // 2
            self.copies[unit] -= half
            self.copies.append(half)
            self.modes.append(self.modes[unit])

    def removed(self, units: Float[Tensor, "k coordinate"], gone: Tensor) -> None:
        """They join the dormant ones with exponent 0, each with its copies."""
        for i in gone.nonzero()[:, 0].tolist():
            modes = torch.cat([self.exponents.new_zeros(1), self.modes[i]])
            again = units[i].expand(self.copies[i], -1)
            self.units = torch.cat([self.units, again / units[i].norm()])
            self.exponents = torch.cat([self.exponents, modes.expand(len(again), -1)])
        kept = (~gone).nonzero()[:, 0].tolist()
        self.copies = [self.copies[i] for i in kept]
        self.modes = [self.modes[i] for i in kept]

    def activate(self, weights: Weights, escape: Escape, size: float) -> Weights:
        """A new unit, or the halves of an active one moved apart; f is the same to first order."""
        if escape.splits is None:
            return add_unit(weights, size * escape.direction)
        m0, units = weights.w1.shape[1], weights.units.clone()
        half, apart = units[escape.splits] / 2**0.5, size / 2**0.5 * escape.direction
        units[escape.splits] = half + apart
        return add_unit(Weights(units[:, :m0], units[:, m0:].mT), half - apart)


@dataclass
class DormantCoordinates(Dormant):
    """Dormant coordinates of a diagonal net f = sum_i u_i v_i x_i (m2 = 1).

    Coordinate i has two dormant modes, u + v and u - v, with exponents 1 - s_i and 1 + s_i,
    s_i <- s_i + rate_i waiting, rate_i = (X R')_i; it becomes active with the sign at which s_i
    reaches +-1 (Pesme and Flammarion 2023). A coordinate that became dormant again keeps its s_i.
    """

    size: int
    step_size: float | None = None
    levels: Tensor = field(init=False)
    active: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.levels = torch.zeros(self.size, dtype=torch.float64)

    def next(self, objective: Objective, state: State, least: float) -> Escape | None:
        """The escape from the saddle `state`; None if no rate exceeds `least`."""
        pull = (objective.problem.inputs @ objective.residual(state).mT)[:, 0].double()
        for i in self.active:
            pull[i] = 0.0
        rates = _finite_step(pull.abs(), self.step_size) * pull.sign()
        times = torch.where(
            pull.abs() > least,
            (1 - self.levels * pull.sign()).clamp(min=0) / rates.abs(),
            torch.inf,
        )
        chosen = int(times.argmin())
        if not bool(torch.isfinite(times[chosen])):
            return None
        waiting = float(times[chosen])
        self.levels = self.levels + rates * waiting
        self.levels[chosen] = float(pull[chosen].sign())
        self.active.add(chosen)
        direction = torch.zeros(self.size + 1, dtype=state.outputs.dtype)
        direction[chosen] = 0.5**0.5
        direction[-1] = 0.5**0.5 * float(pull[chosen].sign())
        rate = pull.abs()
        others = [float(r) for i, r in enumerate(rate.tolist()) if i != chosen]
        return Escape(direction, float(rate[chosen]), max(others, default=0.0), waiting)

    def removed(self, units: Float[Tensor, "k coordinate"], gone: Tensor) -> None:
        """Their coordinates may become active again."""
        for unit in units[gone]:
            self.active.discard(int(unit[:-1].abs().argmax()))
