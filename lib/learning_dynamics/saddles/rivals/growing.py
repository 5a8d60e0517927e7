"""What the growing rivals share: a new unit, then descent among all units, again and again."""

from collections.abc import Callable

import torch
from torch import Tensor

from learning_dynamics.saddles.descent_phase import gradient_phase
from learning_dynamics.saddles.objective import Objective, Path, no_units
from learning_dynamics.saddles.two_layer import State, Weights

__all__ = ["grow"]

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
    max_steps: int,
    stop_loss: float | None = None,
) -> Path:
    """Add `choose(state)`, run gradient descent to |gradient| <= tolerance, repeat.

    Stops when nothing is chosen ("no unit": no proof of a minimum), at `width` units, at a loss <= stop_loss after a descent, or
    when `max_steps` gradient evaluations are spent. The ends of descents are called saddles.
    """
    weights = no_units(objective.problem)
    m0 = objective.problem.inputs.shape[-2]
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
        weights = Weights(
            torch.cat([weights.w1, unit[None, :m0]]),
            torch.cat([weights.w2, unit[m0:, None]], dim=1),
        )
        done = gradient_phase(
            weights, objective, step_size=step_size, tolerance=tolerance,
            max_steps=max(1, max_steps - objective.gradients), known=known,
        )  # fmt: skip
        weights, state = done.weights, done.state
    return objective.path(weights, status)
