"""Equal scalar weights, one a layer: the finite-step delay of simultaneous steps, by counting."""

import math

from learning_dynamics.runtime import check_choice
from learning_dynamics.saddles.deep_nets import SCHEDULES

__all__ = ["scalar_escape"]


def scalar_escape(
    init_scale: float, *, depth: int = 3, schedule: str = "cyclic", step_size: float = 0.2
) -> int:
    """Sweeps that `depth` equal scalar weights need from epsilon until 5 % of the loss is gone.

    One sample x = y = 1 (s = 1). Flow: epsilon^-(L-2) / ((L - 2) eta) plus a constant.
    """
    check_choice("schedule", schedule, SCHEDULES)
    w, sweeps = [init_scale] * depth, 0
    lost = 1 - 0.95**0.5
    while (product := math.prod(w)) < lost:
        if schedule == "simultaneous":
            w = [x + step_size * (1 - product) * product / x for x in w]
        else:
            for i in range(depth):
                product = math.prod(w)
                w[i] += step_size * (1 - product) * product / w[i]
        sweeps += 1
    return sweeps
