"""The efficient algorithm: from saddle to saddle without the plateaus (Arata's thesis, section 4).

At a saddle: find what leaves it first after an infinitesimally small start, a dormant unit (Theorem
1) or copies of an active one that part inside their activation cell; give it the size at which
the loss stops falling along it; descend among the active units to the next saddle; remove units
that became dormant; repeat until nothing escapes. The cost does not depend on any scale.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.activations import Activation, kinks
from learning_dynamics.losses import LOSSES, Loss
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import (
    Diverged,
    check_choice,
    check_instance,
    check_integer,
    check_positive,
    check_share,
    check_tensors,
    normal,
    on_inputs,
)
from learning_dynamics.saddles.skipping.active_descent import (
    Descended,
    descend,
    flow_phase,
    quasi_newton_phase,
)
from learning_dynamics.saddles.skipping.certificate import (
    LARGEST_GAP,
    Certificate,
    bound,
    second_order,
)
from learning_dynamics.saddles.skipping.clarke import is_piecewise_linear
from learning_dynamics.saddles.skipping.dormant_units import (
    DormantCoordinates,
    DormantModes,
    DormantUnits,
    Escape,
    balance,
    follow_dormant,
    pair_of_linear_unit,
)
from learning_dynamics.saddles.skipping.objective import Objective, Path, no_units
from learning_dynamics.saddles.skipping.settings import Settings
from learning_dynamics.saddles.two_layer import State, Weights

__all__ = ["Saddle", "Skipped", "certify", "skip_plateaus"]

DEFAULTS = Settings()
#: How often an end is left for a lower one beside it; after that it is no minimum that is found.
MOST_TRIES = 20


@dataclass(frozen=True)
class Saddle:
    """One visited stationary point.

    weights   : the active units, W1 (k, m0) and W2 (m2, k). loss : L there.
    active     : k, for linear nets the rank of W2 W1.
    removed   : units that became dormant on the way here.
    reached   : the descent met its tolerance.
    escape    : what leaves it; None at the last one.
    evaluations, svds : spent until here, from the start, the search for `escape` included.
    """

    weights: Weights
    loss: float
    active: int
    removed: int
    reached: bool
    escape: Escape | None
    evaluations: int
    svds: int

    def plateau_steps(self, init_scale: float, step_size: float) -> float:
        """Predicted length of the plateau here, in steps of gradient descent from epsilon.

        waiting * log(1/epsilon)/step_size, to leading order in log(1/epsilon); infinite if
        nothing escapes. The finite-step growth is included if the path was computed with that
        step_size.
        """
        check_share("init_scale", init_scale)
        check_positive("step_size", step_size)
        if self.escape is None:
            return math.inf
        return self.escape.waiting * math.log(1 / init_scale) / step_size


@dataclass(frozen=True)
class Skipped:
    """saddles : visited ones in order, the origin first, the end last. path : what was recorded.

    status : "global", "second-order" or "no-minimum", proved by `certificate`; "saddle": something
    leads down that the algorithm cannot follow; "stalled": a descent did not reach its tolerance,
    or a better one ends lower; "stages-exhausted": max_stages reached.
    certificate : the numbers that decided.
    """

    saddles: tuple[Saddle, ...]
    path: Path
    status: str
    certificate: Certificate

    @property
    def loss(self) -> float:
        """L at the end."""
        return self.saddles[-1].loss

    @property
    def weights(self) -> Weights:
        """The active units at the end."""
        return self.saddles[-1].weights

    @property
    def losses(self) -> list[float]:
        """L at the visited saddles, the end included."""
        return [saddle.loss for saddle in self.saddles]


@dataclass(frozen=True)
class _Standard:
    """The problem in units of its own: entries of X and Y of order one, samples in canonical order.

    Positively homogeneous activations and the squared loss have no scale, so that X, Y, L and
    rates can be divided by powers of four (exactly, roots included). Other scales stay.
    inputs, targets : what X and Y were divided by. order : of the samples.
    """

    problem: Problem
    inputs: float
    targets: float
    order: Tensor

    @classmethod
    def of(cls, objective: Objective) -> "_Standard":
        """Of the problem of `objective`, in double precision."""
        x, y = objective.problem.inputs.double(), objective.problem.targets.double()
        weighted = objective.loss.name == "weighted squared"
        free = objective.activation.homogeneous
        unit = [
            4.0 ** round(math.log(float(v.abs().max()) or 1.0, 4)) if scaled else 1.0
            for v, scaled in (
                (x, free),
                (y, free and (weighted or objective.loss.name == "squared")),
            )
        ]
        x, y = x / unit[0], y / unit[1]
        order = torch.arange(x.shape[1])
        if objective.loss.name.split("(")[0] in LOSSES:  # others may hold numbers for each sample
            order = torch.from_numpy(np.lexsort(torch.cat([y, x]).flip(0).numpy()))
        same = Problem(x[:, order].contiguous(), y[:, order].contiguous())
        return cls(same, unit[0], unit[1], order)

    @property
    def rate(self) -> float:
        """What a rate is multiplied by."""
        return self.inputs * self.targets

    def weights(self, w: Weights) -> Weights:
        """In the user's units."""
        factor = math.sqrt(self.targets) / math.sqrt(self.inputs)
        return Weights(factor * w.w1, factor * w.w2)

    def loss(self, value: float) -> float:
        """In the user's units."""
        return value * self.targets * self.targets

    def saddle(self, s: Saddle) -> Saddle:
        """In the user's units."""
        escape = s.escape
        if escape is not None:
            escape = replace(
                escape,
                rate=escape.rate * self.rate,
                second=escape.second * self.rate,
                waiting=escape.waiting / self.rate if self.rate else math.inf,
                hidden=None,
            )
        return replace(s, weights=self.weights(s.weights), loss=self.loss(s.loss), escape=escape)

    def path(self, path: Path) -> Path:
        """In the user's units and order."""
        back = torch.argsort(self.order)
        return replace(
            path,
            losses=path.losses * self.targets * self.targets,
            outputs=path.outputs[..., back] * self.targets,
            weights=self.weights(path.weights),
        )

    def certificate(self, c: Certificate) -> Certificate:
        """In the user's units."""
        return c if c.least is None else replace(c, least=self.loss(c.least))


def _check(objective: Objective, architecture: str) -> None:
    act = objective.activation
    zero = torch.zeros((), dtype=torch.float64)
    if float(act(zero)) != 0:
        raise ValueError(
            f"activation = {act.name!r}: sigma(0) must be 0, or the origin is "
            "not stationary and there is no plateau to skip"
        )
    if abs(float(act.derivative(zero + 1e-6))) < 1e-3:
        raise ValueError(
            f"activation = {act.name!r}: sigma'(0+) must not be 0, or units do "
            "not leave a saddle exponentially"
        )
    if not act.homogeneous and (at := kinks(act)):
        raise ValueError(
            f"activation = {act.name!r}: its slope jumps at z = {at[0]:g}: kinks are known of "
            "positively homogeneous activations only, at zero"
        )
    check_choice("architecture", architecture, ("dense", "diagonal"))
    if architecture == "diagonal" and (
        act.negative_slope != 1 or objective.problem.targets.shape[-2] != 1
    ):
        raise ValueError("architecture = 'diagonal': needs activation 'linear' and one output")


def _dormant(
    objective: Objective,
    width: int,
    architecture: str,
    settings: Settings,
    starts: Tensor | None,
    generator: torch.Generator | None,
) -> DormantModes | DormantUnits | DormantCoordinates:
    m0, m2 = objective.problem.inputs.shape[-2], objective.problem.targets.shape[-2]
    if architecture == "diagonal":
        return DormantCoordinates(m0, settings.step_size)
    if not is_piecewise_linear(objective.activation):
        return DormantModes(width, settings.step_size)
    if starts is None:
        if generator is None:
            raise ValueError(
                "starts = None, generator = None: a piecewise linear activation needs the "
                "directions of its dormant units, or a generator to draw them"
            )
        x = objective.problem.inputs
        starts = normal(width, m0 + m2, generator=generator, dtype=x.dtype, device=x.device)
    check_tensors(inputs=(objective.problem.inputs, "_ _"))
    check_tensors(starts=(starts, f"_ {m0 + m2}"))
    if not bool((starts != 0).any(1).all()):
        raise ValueError("starts: a row is zero and has no direction")
    starts = starts.detach().double()[
        torch.from_numpy(np.lexsort(starts.detach().mT.flip(0).cpu().numpy()))
    ]
    return DormantUnits(starts, min(m0, m2), settings.choice, settings.step_size)


def _without_dormant(objective: Objective, state: State, tolerance: float) -> tuple[State, Tensor]:
    """Remove units whose part of the output is negligible; evaluate once more if any was."""
    w = state.weights
    hidden = objective.activation(w.w1 @ objective.problem.inputs)
    size = hidden.norm(dim=1) * w.w2.norm(dim=0)
    gone = size <= tolerance * size.amax() if len(size) else size > 0
    if bool(gone.any()):
        state = objective(Weights(w.w1[~gone], w.w2[:, ~gone]))
    return state, gone


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in one order, whatever the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@on_inputs
def skip_plateaus(
    problem: Problem,
    *,
    width: int,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    architecture: str = "dense",
    settings: Settings = DEFAULTS,
    starts: Float[Tensor, "s coordinate"] | None = None,
    generator: torch.Generator | None = None,
) -> Skipped:
    """The saddles that gradient descent from infinitesimal scale visits, without its plateaus.

    width      : hidden units of the net followed; at most so many become active.
    architecture : "dense", or "diagonal" for f = sum_i u_i v_i x_i (one output).
    starts     : (s, m0+m2) directions of the dormant units, rows (a, b): those of the net that
                 is to be followed (piecewise linear activations). Default: `width` Gaussian
                 ones from `generator`.
    settings   : how it descends, chooses and stops.
    The loss never rises from saddle to saddle. The same call gives the same numbers in every
    process and for every number of threads; samples and starts are put into lexicographic order.
    Raises ValueError for bad arguments, sigma(0) != 0, sigma'(0+) = 0, non-finite loss.
    Smooth activations: one unit becomes active at a time, where a wide net activates a group of
                        copies.

    >>> from learning_dynamics import generator, linear_teacher, saddles
    >>> problem = linear_teacher(generator=generator(0))
    >>> path = saddles.skip_plateaus(problem, width=10)
    >>> [saddle.active for saddle in path.saddles]  # the rank rises by one at each drop
    [0, 1, 2, 3, 4]
    >>> path.status
    'global'
    """
    given = Objective(problem, activation=activation, loss=loss)
    check_instance("settings", settings, Settings)
    check_integer("width", width, least=1)
    _check(given, architecture)
    with _one_thread():
        units = _Standard.of(given)
        if settings.step_size is not None:
            settings = replace(settings, step_size=settings.step_size * units.rate)
        objective = Objective(units.problem, activation=activation, loss=loss)
        dormant = _dormant(objective, width, architecture, settings, starts, generator)
        found = _skip(objective, dormant, width, architecture == "diagonal", settings)
    return replace(
        found,
        saddles=tuple(units.saddle(s) for s in found.saddles),
        path=units.path(found.path),
        certificate=units.certificate(found.certificate),
    )


@on_inputs
def certify(
    problem: Problem,
    weights: Weights,
    *,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    settings: Settings = DEFAULTS,
) -> Certificate:
    """What kind of point a dense net, however it was trained, rests at: W1 (m1, m0), W2 (m2, m1).

    Units whose output is below `settings.dormant_tolerance` of the largest are dormant, with the
    directions they have. The others first descend to the stationary point next to them (a run ends
    near one); if the loss falls by more than 1e-6 of the first on the way, the status is "unknown".
    Raises ValueError for bad arguments, sigma(0) != 0, sigma'(0+) = 0, non-finite loss.

    >>> from learning_dynamics import generator, linear_teacher
    >>> problem = linear_teacher(generator=generator(0))
    >>> nothing = Weights(problem.teacher.new_zeros(3, 6), problem.teacher.new_zeros(4, 3))
    >>> certify(problem, nothing).status
    'saddle'
    """
    given = Objective(problem, activation=activation, loss=loss)
    _check(given, "dense")
    check_instance("settings", settings, Settings)
    check_instance("weights", weights, Weights)
    check_tensors(
        w1=(weights.w1, "m1 m0"),
        w2=(weights.w2, "m2 m1"),
        inputs=(problem.inputs, "m0 n"),
        targets=(problem.targets, "m2 n"),
    )
    with _one_thread():
        units = _Standard.of(given)
        factor = math.sqrt(units.inputs) / math.sqrt(units.targets)
        w = Weights(*(factor * part.detach().double() for part in weights))
        objective = Objective(units.problem, activation=activation, loss=loss)
        state = start = objective(w)
        known = bound(objective, state.outputs)
        if known.status == "global":
            return units.certificate(known)
        state, gone = _without_dormant(objective, state, settings.dormant_tolerance)
        if len(state.weights.w1):
            state = _rest(state.weights, objective, settings.max_steps, known=state.outputs).state
        escape = 0.0
        if bool(gone.any()) and is_piecewise_linear(objective.activation):
            escape = float(follow_dormant(w.units[gone], objective, state).rates.max())
        elif bool(gone.any()):
            escape = float(pair_of_linear_unit(objective, state)[1][0])
        first = objective.first() or float(start.loss) or 1.0  # targets may all be zero
        fall = float(start.loss - state.loss) / first
        if fall > LARGEST_GAP:
            why = f"not stationary: a descent lowers the loss by {fall:.1e} of the first"
            return units.certificate(replace(known, why=why))
        found = second_order(
            objective,
            state,
            escape=escape,
            spare=bool(gone.any()),
            rate_tolerance=settings.rate_tolerance,
            known=known,
        )
        if found.status == "second-order" and _beside(objective, state) is not None:
            found = replace(found, status="saddle", why="a descent from beside it ends lower")
        found = _tried(found, objective, state)
    return units.certificate(found)


def _skip(
    objective: Objective,
    dormant: DormantModes | DormantUnits | DormantCoordinates,
    width: int,
    diagonal: bool,
    settings: Settings,
) -> Skipped:
    """`skip_plateaus` in the problem's own units."""
    state = objective(no_units(objective.problem))
    saddles: list[Saddle] = []
    removed, reached, tries = 0, True, 0
    while True:
        certificate, escape = bound(objective, state.outputs, diagonal=diagonal), None
        if certificate.status != "global":
            largest = objective.largest_rate(state)
            if largest > 0:
                escape = dormant.next(objective, state, settings.rate_tolerance * largest)
            if escape is None and reached and not diagonal and tries < MOST_TRIES:
                copies = dormant.copies if isinstance(dormant, DormantUnits) else ()
                halved = [i for i, number in enumerate(copies) if number > 1]
                lower = _beside(objective, state, halved)
                if lower is not None:
                    if isinstance(dormant, DormantUnits):
                        dormant.divide(*halved)
                    state, tries = lower, tries + 1
                    objective.record(state)
                    continue
        objective.record(state, saddle=True)
        k, spent = len(state.weights.w1), (objective.gradients, objective.svds)
        saddles.append(
            Saddle(state.weights, float(state.loss), k, removed, reached, escape, *spent)
        )
        if certificate.status == "global":
            status = "global"
            break
        ended = settings.max_stages is not None and len(saddles) > settings.max_stages
        left = None
        if reached and escape is not None and not ended:
            left = _activated(objective, state, dormant, escape, settings)
        if left is None or escape is None:
            mask = None
            if diagonal:
                mask = torch.cat([state.weights.w1 != 0, torch.ones(k, 1, dtype=torch.bool)], 1)
                mask = mask.flatten()
            certificate = second_order(
                objective,
                state,
                escape=0.0 if escape is None else escape.rate,
                spare=k < width,
                copies=getattr(dormant, "copies", None),
                rate_tolerance=settings.rate_tolerance,
                mask=mask,
                known=certificate,
            )
            if not diagonal:
                certificate = _tried(certificate, objective, state)
            status = certificate.status
            if ended and status != "no-minimum":
                status = "stages-exhausted"
            elif (not reached and status != "no-minimum") or status == "unknown":
                status = "stalled"
            break
        weights, size, curvature = left
        dormant.activated(escape)
        done = descend(
            weights,
            objective,
            settings,
            rate=escape.rate,
            size=size,
            curvature=curvature,
            diagonal=diagonal,
        )
        reached = done.reached
        before = done.state.weights.units
        state, gone = _without_dormant(objective, done.state, settings.dormant_tolerance)
        removed = int(gone.sum())
        dormant.removed(before, gone)
    return Skipped(tuple(saddles), objective.path(state.weights, status), status, certificate)


def _rest(
    start: Weights,
    objective: Objective,
    max_steps: int,
    *,
    newton: bool = False,
    known: Tensor | None = None,
) -> Descended:
    """Where the fast descent from `start` finds no gradient any more."""
    options: dict[str, Any] = {"tolerance": 0.0, "max_steps": max_steps, "known": known}
    if is_piecewise_linear(objective.activation) and not newton:
        return flow_phase(start, objective, relative=1e-8, **options)
    return quasi_newton_phase(start, objective, **options)


def _tried(certificate: Certificate, objective: Objective, state: State) -> Certificate:
    """A second-order certificate, or none if a quasi-Newton descent from beside it ends lower.

    It follows flat valleys that lead away, such as those of labels that can partly be separated,
    faster than a flow does.
    """
    if certificate.status != "second-order" or not is_piecewise_linear(objective.activation):
        return certificate  # of other nets the descents are quasi-Newton anyway
    if _beside(objective, state, newton=True) is None:
        return certificate
    why = "a quasi-Newton descent from beside it ends lower"
    return replace(certificate, status="unknown", why=why)


def _beside(
    objective: Objective, state: State, halved: Sequence[int] = (), *, newton: bool = False
) -> State | None:
    """Where a descent from beside a point ends at which nothing escapes; None if not lower.

    Units with copies, `halved`, are halved, and all moved by a hundredth of themselves: what the
    second order cannot see (kinks that are just held, flat directions) is tried. Counted only if
    it is taken: else it is a part of the certificate.
    """
    units, m0, before = state.weights.units, state.weights.w1.shape[1], objective.gradients
    if not len(units):
        return None
    rows, twice = units.clone(), list(halved)
    rows[twice] /= 2**0.5
    rows = torch.cat([rows, rows[twice]])
    x, y = objective.problem.inputs, objective.problem.targets
    # The same in any axes, in any order of samples.
    lengths = x.square().sum(0) / x.square().sum(0).mean()
    phases = 7 * torch.arange(1, len(rows) + 1)[:, None] * lengths
    shift = torch.cat([phases.cos() @ x.mT, phases.sin() @ y.mT], dim=1)
    rows = rows + 0.01 * rows.norm(dim=1, keepdim=True) * shift / shift.norm(dim=1, keepdim=True)
    start = Weights(rows[:, :m0].contiguous(), rows[:, m0:].mT.contiguous())
    try:
        with objective.unrecorded():
            done = _rest(start, objective, 2000, newton=newton)
    except Diverged:  # a step that was tried was too long: this says nothing of the end
        objective.gradients = before
        return None
    if float(state.loss - done.state.loss) <= 0.5 * LARGEST_GAP * objective.first():
        objective.gradients = before
        return None
    return done.state


def _activated(
    objective: Objective,
    state: State,
    dormant: DormantModes | DormantUnits | DormantCoordinates,
    escape: Escape,
    settings: Settings,
) -> tuple[tuple[Weights, Tensor], float, float] | None:
    """The net after the escape with its outputs where they are known, the size of the new unit and
    the curvature met; None if no size lowers the loss."""
    found = balance(escape.direction, objective, state, hidden=escape.hidden)
    if found is None:
        return None
    size = settings.jump * found.size
    for _ in range(60):
        weights = dormant.activate(state.weights, escape, size)
        tried = objective(weights, found.outputs)
        if tried.loss < state.loss:
            return (weights, tried.outputs), found.size, found.curvature
        size *= 0.5
    return None
