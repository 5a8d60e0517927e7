"""The efficient algorithm: from saddle to saddle without the plateaus (Arata's thesis, section 4).

At a saddle: find the unit that would become active after an infinitesimally small start (Theorem
             1);
give it the size at which the loss stops falling along it; descend among the active units to the
next saddle; remove units that became dormant; repeat until nothing escapes. The path is meant to be
that of gradient descent as the initial scale goes to zero; the cost does not depend on any scale.
Only dormant units are asked whether they escape. Among active units no second order is tested:
in nets with a kink and more than one output copies of a unit part there, and the path is left
too early. So the end counts as a minimum only with a proof (`certificate`).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from learning_dynamics.activations import Activation
from learning_dynamics.losses import Loss
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import check_choice, check_integer, check_positive, normal, on_inputs
from learning_dynamics.saddles.skipping.active_descent import gradient_phase, quasi_newton_phase
from learning_dynamics.saddles.skipping.certificate import Certificate, certify
from learning_dynamics.saddles.skipping.clarke import is_piecewise_linear
from learning_dynamics.saddles.skipping.dormant_units import (
    DormantCoordinates,
    DormantModes,
    DormantUnits,
    Escape,
    balance,
)
from learning_dynamics.saddles.skipping.objective import Objective, Path, add_unit, no_units
from learning_dynamics.saddles.two_layer import State, Weights

__all__ = ["Saddle", "Skipped", "skip_plateaus"]


@dataclass(frozen=True)
class Saddle:
    """One visited stationary point.

    weights   : the active units, W1 (k, m0) and W2 (m2, k). loss : L there.
    active     : k, for linear nets the rank of W2 W1.
    removed   : units that became dormant on the way here.
    reached   : the descent met its tolerance.
    escape    : the unit that leaves it; None at the last one.
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
        check_positive("init_scale", init_scale)
        check_positive("step_size", step_size)
        if self.escape is None:
            return math.inf
        return self.escape.waiting * math.log(1 / init_scale) / step_size


@dataclass(frozen=True)
class Skipped:
    """saddles : visited ones in order, the origin first, the end last. path : what was recorded.

    status : "minimum" (nothing escapes, and `certificate` proves it to be one), "uncertified"
    (no dormant unit escapes, but that does not prove a minimum: the point may be a saddle),
    "width" (a unit would escape but all are active), "stages" (max_stages reached) or "stuck" (a
    descent did not reach its tolerance): nothing is proved of these ends either.
    certificate : the numbers that decided between the first two; None for the others.
    """

    saddles: tuple[Saddle, ...]
    path: Path
    status: str
    certificate: Certificate | None = None


def _check(problem: Problem, objective: Objective, architecture: str) -> None:
    zero = torch.zeros((), dtype=problem.inputs.dtype)
    if float(objective.activation(zero)) != 0:
        raise ValueError(
            f"activation = {objective.activation.name!r}: sigma(0) must be 0, or the origin is "
            "not stationary and there is no plateau to skip"
        )
    one = torch.ones_like(zero)
    if all(float(objective.activation.derivative(v * one)) == 0 for v in (0.0, 1e-6, -1e-6)) or (
        abs(float(objective.activation.derivative(1e-6 * one))) < 1e-3
    ):
        raise ValueError(
            f"activation = {objective.activation.name!r}: sigma'(0+) must not be 0, or units do "
            "not leave a saddle exponentially"
        )
    if architecture == "diagonal" and (
        objective.activation.negative_slope != 1 or problem.targets.shape[-2] != 1
    ):
        raise ValueError("architecture = 'diagonal': needs activation 'linear' and one output")


def _dormant(
    objective: Objective,
    width: int,
    architecture: str,
    choice: str,
    step_size: float | None,
    starts: Tensor | None,
    generator: torch.Generator | None,
) -> DormantModes | DormantUnits | DormantCoordinates:
    m0, m2 = objective.problem.inputs.shape[-2], objective.problem.targets.shape[-2]
    if architecture == "diagonal":
        return DormantCoordinates(m0, step_size)
    if not is_piecewise_linear(objective.activation):
        return DormantModes(width, step_size)
    if starts is None:
        if generator is None:
            raise ValueError(
                "starts = None, generator = None: a piecewise linear activation needs the "
                "directions of its dormant units, or a generator to draw them"
            )
        x = objective.problem.inputs
        starts = normal(width, m0 + m2, generator=generator, dtype=x.dtype, device=x.device)
    if tuple(starts.shape)[1:] != (m0 + m2,):
        raise ValueError(f"starts: shape {tuple(starts.shape)} must be (units, {m0 + m2})")
    return DormantUnits(starts, choice, step_size)


def _without_dormant(
    weights: Weights, objective: Objective, state: State, dormant_tolerance: float
) -> tuple[Weights, State, Tensor]:
    """Remove units whose part of the output is negligible; evaluate once more if any was."""
    size = weights.w1.norm(dim=1) * weights.w2.norm(dim=0)
    keep = size > dormant_tolerance * size.max()
    gone = weights.units[~keep]
    if len(gone):
        weights = Weights(weights.w1[keep], weights.w2[:, keep])
        state = objective(weights)
    return weights, state, gone


@on_inputs
def skip_plateaus(
    problem: Problem,
    *,
    width: int,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    phase: str = "fast",
    step_size: float | None = None,
    architecture: str = "dense",
    choice: str = "gradient_descent",
    starts: Float[Tensor, "s coordinate"] | None = None,
    generator: torch.Generator | None = None,
    jump: float = 1.0,
    tolerance: float = 1e-5,
    rate_tolerance: float = 1e-3,
    dormant_tolerance: float = 1e-6,
    max_stages: int | None = None,
    max_steps: int = 100_000,
) -> Skipped:
    """The saddles that gradient descent from infinitesimal scale visits, without its plateaus.

    width      : hidden units of the net followed; at most so many become active.
    phase      : "fast" (quasi-Newton) or "gradient_descent" with `step_size` (also used in the
                 finite-step growth log(1 + eta r)/eta that decides which unit becomes active).
    architecture : "dense", or "diagonal" for f = sum_i u_i v_i x_i (one output).
    choice     : piecewise linear activations: activate the unit that "gradient_descent" activates
                 first, or the "best" one over all starts.
    starts     : (s, m0+m2) directions of the dormant units, rows (a, b): those of the net that
                 is to be followed. Default: `width` Gaussian ones from `generator`.
    jump       : size of the activated unit in units of the balance size (`escape.balance`).
    tolerance  : a descent ends when |gradient| <= tolerance * rate * size, the gradient that
                 the unit had when it became active being about rate * size.
    rate_tolerance : escape rates below this share of the first are taken for zero; must exceed
                 `tolerance` well, since a saddle found to a tolerance has a residue of it.
    dormant_tolerance : units with |a||b| below this share of the largest are dormant and removed.
    max_stages : stop after so many descents. max_steps : per descent.
    Raises ValueError for bad arguments, sigma(0) != 0, sigma'(0+) = 0, non-finite loss.
    Smooth activations: one unit becomes active at a time, where a wide net activates a group of
                        copies.
    Status "minimum" is proved (see `Skipped`): squared loss and a linear net, or a loss of zero.

    >>> from learning_dynamics import generator, linear_teacher, saddles
    >>> problem = linear_teacher(generator=generator(0))
    >>> path = saddles.skip_plateaus(problem, width=10, step_size=0.05)
    >>> [saddle.active for saddle in path.saddles]  # the rank rises by one at each drop
    [0, 1, 2, 3, 4]
    """
    objective = Objective(problem, activation=activation, loss=loss)
    check_integer("width", width, least=1)
    check_integer("max_steps", max_steps, least=1)
    check_integer("max_stages", 0 if max_stages is None else max_stages)
    check_choice("phase", phase, ("gradient_descent", "fast"))
    check_choice("architecture", architecture, ("dense", "diagonal"))
    check_choice("choice", choice, ("gradient_descent", "best"))
    check_positive("jump", jump)
    check_positive("tolerance", tolerance)
    check_positive("rate_tolerance", rate_tolerance)
    check_positive("dormant_tolerance", dormant_tolerance)
    if step_size is not None:
        check_positive("step_size", step_size)
    elif phase == "gradient_descent":
        raise ValueError("step_size = None: phase 'gradient_descent' needs a number > 0")
    _check(problem, objective, architecture)
    dormant = _dormant(objective, width, architecture, choice, step_size, starts, generator)
    diagonal = architecture == "diagonal"
    weights = no_units(problem)
    state = objective(weights)
    saddles: list[Saddle] = []
    removed, reached, first_rate, certificate = 0, True, None, None
    while True:
        objective.record(state, saddle=True)
        least = rate_tolerance * first_rate if first_rate is not None else 1e-12
        escape = dormant.next(objective, state, least)
        saddles.append(
            Saddle(
                weights,
                float(state.loss),
                weights.w1.shape[0],
                removed,
                reached,
                escape,
                objective.gradients,
                objective.svds,
            )
        )
        if not reached:
            status = "stuck"
            break
        if escape is None:
            certificate = certify(objective, state.outputs, diagonal=diagonal)
            status = "minimum" if certificate.holds else "uncertified"
            break
        if weights.w1.shape[0] >= width:
            status = "width"
            break
        if max_stages is not None and len(saddles) > max_stages:
            status = "stages"
            break
        first_rate = first_rate or escape.rate
        found = balance(escape.direction, objective, state)
        size = jump * found.size
        weights = add_unit(weights, size * escape.direction)
        mask: Bool[Tensor, "m1 m0"] | None = weights.w1 != 0 if diagonal else None
        descent: dict[str, Any] = {"mask": mask, "known": found.outputs, "max_steps": max_steps}
        descent["tolerance"] = tolerance * escape.rate * found.size
        if phase == "gradient_descent":
            descent["step_size"] = step_size
            done = gradient_phase(weights, objective, **descent)
        else:
            done = quasi_newton_phase(
                weights, objective, curvature=found.curvature, rate=escape.rate, **descent
            )
        reached = done.reached
        weights, state, gone = _without_dormant(
            done.weights, objective, done.state, dormant_tolerance
        )
        removed = len(gone)
        for unit in gone:
            dormant.make_dormant(unit)
    return Skipped(tuple(saddles), objective.path(weights, status), status, certificate)
