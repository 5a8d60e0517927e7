"""TINY (Verbockhaven et al. 2024): the new unit that best expresses the wanted change of output."""

import torch

from learning_dynamics.activations import Activation
from learning_dynamics.losses import Loss
from learning_dynamics.problems import Problem
from learning_dynamics.saddles.escape import balance
from learning_dynamics.saddles.objective import Objective, Path
from learning_dynamics.saddles.rivals.growing import grow
from learning_dynamics.saddles.two_layer import State

__all__ = ["tiny"]


def tiny(
    problem: Problem,
    *,
    width: int,
    step_size: float,
    tolerance: float,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    least_rate: float = 1e-6,
    max_steps: int = 20_000,
    stop_loss: float | None = None,
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
        return found.size * unit, found.outputs

    return grow(
        objective, choose, width=width, step_size=step_size, tolerance=tolerance,
        max_steps=max_steps, stop_loss=stop_loss,
    )  # fmt: skip
