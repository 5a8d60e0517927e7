"""Which unit becomes active next: dormant units of a net started at infinitesimal scale.

A dormant unit has size epsilon^p with its own exponent p (1 at the start). During a plateau
that lasts waiting * log(1/epsilon) units of time a unit that grows at rate r goes from p to
p - r * waiting; the unit whose exponent reaches zero first becomes active. Only exponents and
directions are kept, so that nothing here depends on epsilon.
"""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.activations import Activation
from learning_dynamics.kernels.weights import unit_force
from learning_dynamics.saddles.skipping.objective import Objective
from learning_dynamics.saddles.two_layer import State

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


ON_KINK = 1e-10  # |a . x_j| / |x_j| below which a unit of norm one is on the kink (rounding: 1e-16)


@dataclass(frozen=True)
class Followed:
    """Where dormant units settle: unit directions (s, m0+m2) and growth rates (s,)."""

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
        requirement = torch.linalg.lstsq(gain, -push[:, None]).solution[:, 0]
        low = push + gain @ torch.full_like(requirement, left)
        high = push + gain @ torch.full_like(requirement, right)
        holds = (requirement > min(left, right)) & (requirement < max(left, right)) & (high < low)
        # not held: leave towards the side on which the flow goes on in the same direction
        leave = torch.where(high > 0, right, torch.where(low < 0, left, 0.5 * (left + right)))
        slopes[i, kinks] = torch.where(holds, requirement, leave)
        sliding[i, kinks] = holds
    return slopes, sliding


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
        force = unit_force(v, x, residual, act, slopes)
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
    return Followed(w, (w * unit_force(w, x, residual, act, slopes)).sum(1))


@dataclass(frozen=True)
class Escape:
    """The unit that leaves a saddle.

    direction : (p, q)/sqrt 2, unit vector of length m0 + m2.
    rate      : growth per unit time. second : rate of the runner-up, 0 if there is none.
    waiting   : length of the plateau in units of log(1/epsilon), time units.
    """

    direction: Float[Tensor, " coordinate"]
    rate: float
    second: float
    waiting: float

    @property
    def tied(self) -> bool:
        """No gap: which of the two becomes active depends on the start, not on the problem."""
        return self.second >= (1 - 1e-6) * self.rate


def _finite_step(rates: Tensor, step_size: float | None) -> Tensor:
    """log(1 + eta r)/eta, the growth per unit time of a finite step; r for the flow."""
    return rates if step_size is None else torch.log1p(step_size * rates) / step_size


@dataclass
class DormantModes:
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
        direction, singular = pair_of_linear_unit(objective, state)
        if float(singular[0]) <= least:
            return None
        second = float(singular[1]) if len(singular) > 1 else 0.0
        if len(self.exponents) == 0:  # a wider net would escape; in this one no unit is dormant
            return Escape(direction, float(singular[0]), second, math.inf)
        rates = torch.zeros_like(self.exponents)
        count = min(len(rates), len(singular))
        rates[:count] = _finite_step(singular[:count].double(), self.step_size)
        waiting = float(self.exponents[0].clamp(min=0) / rates[0])
        self.exponents = self.exponents[1:] - rates[1:] * waiting
        return Escape(direction, float(singular[0]), second, waiting)

    def make_dormant(self, unit: Float[Tensor, " coordinate"]) -> None:
        """A unit of a linear net that became dormant again joins the others with exponent 0."""
        self.exponents = torch.cat([self.exponents.new_zeros(1), self.exponents])


@dataclass
class DormantUnits:
    """Dormant units under a piecewise linear activation, each with direction and exponent.

    units : (s, m0+m2) start directions; only directions count.
    choice : "gradient_descent", the unit that plain gradient descent activates first, each unit
        following its own direction; "best", the largest rate that any start can reach (the
        given ones start anew at every saddle).
    """

    units: Float[Tensor, "s coordinate"]
    choice: str = "gradient_descent"
    step_size: float | None = None
    exponents: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.exponents = torch.ones(len(self.units), dtype=torch.float64)
        self._start = self.units

    def next(self, objective: Objective, state: State, least: float) -> Escape | None:
        """The escape from the saddle `state`; None if no rate exceeds `least`."""
        starts = self._start if self.choice == "best" else self.units
        if len(starts) == 0:
            return None
        followed = follow_dormant(starts, objective, state)
        rates = _finite_step(followed.rates.double(), self.step_size)
        growing = followed.rates > least
        if not bool(growing.any()):
            return None
        if self.choice == "best":
            chosen = int(followed.rates.argmax())
            waiting = float(1 / rates[chosen])
        else:
            times = torch.where(growing, self.exponents.clamp(min=0) / rates, torch.inf)
            chosen = int(times.argmin())
            waiting = float(times[chosen])
        direction = followed.directions[chosen]
        others = (followed.directions @ direction) < 1 - 1e-6
        second = float(followed.rates[others].clamp(min=0).max()) if bool(others.any()) else 0.0
        if self.choice != "best":
            exponents = self.exponents - rates * waiting
            dormant = others | (exponents > 1e-6)
            self.units, self.exponents = followed.directions[dormant], exponents[dormant]
        return Escape(direction, float(followed.rates[chosen]), second, waiting)

    def make_dormant(self, unit: Float[Tensor, " coordinate"]) -> None:
        """The unit joins the dormant ones with exponent 0."""
        self.units = torch.cat([self.units, unit[None] / unit.norm()])
        self.exponents = torch.cat([self.exponents, self.exponents.new_zeros(1)])


@dataclass
class DormantCoordinates:
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

    def make_dormant(self, unit: Float[Tensor, " coordinate"]) -> None:
        """The coordinate of a unit that went back to zero may become active again."""
        self.active.discard(int(unit[:-1].abs().argmax()))
