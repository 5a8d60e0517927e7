"""Who wakes next: sleeping units of a net started at infinitesimal scale.

A sleeping unit has size epsilon^p with its own exponent p (1 at the start). During a plateau
that lasts waiting * log(1/epsilon) units of time a unit that grows at rate r goes from p to
p - r * waiting; the unit whose exponent reaches zero first wakes. Only exponents and directions
are kept, so that nothing here depends on epsilon.
"""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.saddles.escape import pair_of_linear_unit
from learning_dynamics.saddles.kinked_sleepers import follow_sleepers
from learning_dynamics.saddles.objective import Objective
from learning_dynamics.saddles.two_layer import State

__all__ = ["CoordinateSleepers", "Escape", "GenericSleepers", "UnitSleepers"]


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
        """No gap: which of the two wakes depends on the start, not on the problem."""
        return self.second >= (1 - 1e-6) * self.rate


def _finite_step(rates: Tensor, step_size: float | None) -> Tensor:
    """log(1 + eta r)/eta, the growth per unit time of a finite step; r for the flow."""
    return rates if step_size is None else torch.log1p(step_size * rates) / step_size


@dataclass
class GenericSleepers:
    """Sleeping units of a linear net (or a smooth one: linear while asleep), generic start.

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
        if len(self.exponents) == 0:  # a wider net would escape; in this one nobody sleeps
            return Escape(direction, float(singular[0]), second, math.inf)
        rates = torch.zeros_like(self.exponents)
        count = min(len(rates), len(singular))
        rates[:count] = _finite_step(singular[:count].double(), self.step_size)
        waiting = float(self.exponents[0].clamp(min=0) / rates[0])
        self.exponents = self.exponents[1:] - rates[1:] * waiting
        return Escape(direction, float(singular[0]), second, waiting)

    def fall_asleep(self, unit: Float[Tensor, " coordinate"]) -> None:
        """A unit of a linear net that returned to sleep joins the others with exponent 0."""
        self.exponents = torch.cat([self.exponents.new_zeros(1), self.exponents])


@dataclass
class UnitSleepers:
    """Sleeping units of a net with a kinked activation, each with its direction and exponent.

    units : (s, m0+m2) start directions; only directions count.
    choice : "gradient_descent", the unit that plain gradient descent wakes first, each unit
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
        followed = follow_sleepers(starts, objective, state)
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
            asleep = others | (exponents > 1e-6)
            self.units, self.exponents = followed.directions[asleep], exponents[asleep]
        return Escape(direction, float(followed.rates[chosen]), second, waiting)

    def fall_asleep(self, unit: Float[Tensor, " coordinate"]) -> None:
        """The unit joins the sleeping ones with exponent 0."""
        self.units = torch.cat([self.units, unit[None] / unit.norm()])
        self.exponents = torch.cat([self.exponents, self.exponents.new_zeros(1)])


@dataclass
class CoordinateSleepers:
    """Sleeping coordinates of a diagonal net f = sum_i u_i v_i x_i (m2 = 1).

    Coordinate i has two sleeping modes, u + v and u - v, with exponents 1 - s_i and 1 + s_i,
    s_i <- s_i + rate_i waiting, rate_i = (X R')_i; it wakes with the sign at which s_i reaches
    +-1 (Pesme and Flammarion 2023). A coordinate that returned to sleep keeps its s_i.
    """

    size: int
    step_size: float | None = None
    levels: Tensor = field(init=False)
    awake: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.levels = torch.zeros(self.size, dtype=torch.float64)

    def next(self, objective: Objective, state: State, least: float) -> Escape | None:
        """The escape from the saddle `state`; None if no rate exceeds `least`."""
        pull = (objective.problem.inputs @ objective.residual(state).mT)[:, 0].double()
        for i in self.awake:
            pull[i] = 0.0
        rates = _finite_step(pull.abs(), self.step_size) * pull.sign()
        times = torch.where(
            pull.abs() > least, (1 - self.levels * pull.sign()).clamp(min=0) / rates.abs(), torch.inf
        )
        chosen = int(times.argmin())
        if not bool(torch.isfinite(times[chosen])):
            return None
        waiting = float(times[chosen])
        self.levels = self.levels + rates * waiting
        self.levels[chosen] = float(pull[chosen].sign())
        self.awake.add(chosen)
        direction = torch.zeros(self.size + 1, dtype=state.outputs.dtype)
        direction[chosen] = 0.5**0.5
        direction[-1] = 0.5**0.5 * float(pull[chosen].sign())
        rate = pull.abs()
        others = [float(r) for i, r in enumerate(rate.tolist()) if i != chosen]
        return Escape(direction, float(rate[chosen]), max(others, default=0.0), waiting)

    def fall_asleep(self, unit: Float[Tensor, " coordinate"]) -> None:
        """The coordinate of a unit that went back to zero may wake again."""
        self.awake.discard(int(unit[:-1].abs().argmax()))
