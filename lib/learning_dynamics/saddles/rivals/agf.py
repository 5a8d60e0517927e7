"""Alternating gradient flows (Kunin et al. 2025): utility of sleeping units, then cost."""

import math

import torch
from torch import Tensor

from learning_dynamics.activations import Activation
from learning_dynamics.losses import Loss
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import check_positive
from learning_dynamics.saddles.objective import Objective, Path
from learning_dynamics.saddles.rivals.growing import grow
from learning_dynamics.saddles.two_layer import State

__all__ = ["alternating_flows"]


def alternating_flows(
    problem: Problem,
    *,
    width: int,
    generator: torch.Generator,
    step_size: float,
    tolerance: float,
    init_scale: float = 1e-8,
    size: float = 0.1,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    max_steps: int = 20_000,
    stop_loss: float | None = None,
) -> Path:
    """Directions of `width` sleeping units climb their utility until one has accumulated
    log(1/init_scale); that unit is inserted at `size`; then gradient descent on the awake ones.

    The utility flow is stepped by 1/2 over the norm of the end-to-end gradient (one evaluation
    a step for all sleeping units), so its cost grows as log(1/init_scale), as that of gradient
    descent does. Homogeneous activations of degree 1. In a linear net all sleeping units align
    to one direction; those left over start anew at random, with nothing accumulated (the paper
    has a closed recursion for that case).
    """
    check_positive("init_scale", init_scale)
    check_positive("size", size)
    objective = Objective(problem, activation=activation, loss=loss)
    act, x = objective.activation, problem.inputs
    if not act.homogeneous:
        raise ValueError(f"activation = {act.name!r}: must be homogeneous")
    m0 = x.shape[-2]
    units = torch.randn(width, m0 + len(problem.targets), generator=generator, dtype=x.dtype)
    units = units / units.norm(dim=1, keepdim=True)
    grown = torch.zeros(width, dtype=x.dtype)
    threshold = math.log(1 / init_scale)

    def force(w: Tensor, residual: Tensor) -> Tensor:
        z = w[:, :m0] @ x
        back = (act.derivative(z) * (w[:, m0:] @ residual)) @ x.mT
        return torch.cat([back, act(z) @ residual.mT], dim=1)

    def choose(state: State) -> Tensor | None:
        nonlocal units, grown
        residual = objective.residual(state)
        rate = float(torch.linalg.matrix_norm(x @ residual.mT, 2))
        if rate <= 1e-6 or len(units) == 0:
            return None
        step = 0.5 / rate
        while objective.gradients < max_steps:
            objective.gradients += 1
            push = force(units, residual)
            grown = grown + step * (units * push).sum(1)
            units = units + step * push
            units = units / units.norm(dim=1, keepdim=True)
            if float(grown.max()) >= threshold:
                chosen = int(grown.argmax())
                unit = size * units[chosen]
                if act.negative_slope == 1:  # all are twins: the others start anew
                    units = torch.randn(units[1:].shape, generator=generator, dtype=x.dtype)
                    units = units / units.norm(dim=1, keepdim=True)
                    grown = torch.zeros(len(units), dtype=x.dtype)
                else:  # the chosen unit's twins join it
                    keep = units @ units[chosen] < 1 - 1e-3
                    units, grown = units[keep], grown[keep]
                return unit
        return None

    return grow(
        objective, choose, width=width, step_size=step_size, tolerance=tolerance,
        max_steps=max_steps, stop_loss=stop_loss,
    )  # fmt: skip
