"""Neuron Pursuit (Kumar and Haupt 2025): the best direction over several random starts."""

import torch

from learning_dynamics.activations import Activation
from learning_dynamics.losses import Loss
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import check_integer, check_positive
from learning_dynamics.saddles.kinked_sleepers import follow_sleepers
from learning_dynamics.saddles.objective import Objective, Path
from learning_dynamics.saddles.rivals.growing import grow
from learning_dynamics.saddles.two_layer import State

__all__ = ["neuron_pursuit"]


def neuron_pursuit(
    problem: Problem,
    *,
    width: int,
    generator: torch.Generator,
    step_size: float,
    tolerance: float,
    size: float = 0.1,
    starts: int = 16,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    least_rate: float = 1e-6,
    max_steps: int = 20_000,
    stop_loss: float | None = None,
) -> Path:
    """Maximise the neural correlation from `starts` fresh random directions, insert `size` u.

    Homogeneous activations. Any direction may be chosen, also one that gradient descent's own
    sleeping units would never take.
    """
    check_positive("size", size)
    check_integer("starts", starts, least=1)
    objective = Objective(problem, activation=activation, loss=loss)
    if not objective.activation.homogeneous:
        raise ValueError(f"activation = {objective.activation.name!r}: must be homogeneous")
    length = problem.inputs.shape[-2] + problem.targets.shape[-2]

    def choose(state: State) -> torch.Tensor | None:
        fresh = torch.randn(starts, length, generator=generator, dtype=problem.inputs.dtype)
        found = follow_sleepers(fresh, objective, state)
        best = int(found.rates.argmax())
        return None if float(found.rates[best]) <= least_rate else size * found.directions[best]

    return grow(
        objective, choose, width=width, step_size=step_size, tolerance=tolerance,
        max_steps=max_steps, stop_loss=stop_loss,
    )  # fmt: skip
