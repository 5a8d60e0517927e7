"""Greedy rank-one pursuit (GECO, Shalev-Shwartz, Gonen and Shamir 2011; linear nets)."""

import numpy as np
import torch
from scipy.optimize import minimize

from learning_dynamics.losses import Loss
from learning_dynamics.problems import Problem
from learning_dynamics.saddles.skipping.dormant_units import pair_of_linear_unit
from learning_dynamics.saddles.skipping.objective import Objective, Path, no_units
from learning_dynamics.saddles.two_layer import Weights

__all__ = ["rank_one_pursuit"]


def rank_one_pursuit(
    problem: Problem,
    *,
    width: int,
    loss: str | Loss = "squared",
    tolerance: float = 1e-8,
    least_rate: float = 1e-6,
    max_steps: int = 20_000,
    stop_loss: float | None = None,
) -> Path:
    """Add the top pair of the gradient to the spans; refit the core C in W = U C V' (L-BFGS).

    The core problem is convex. The spans never turn, so that rank-k levels are not reached for
    anisotropic inputs; the end at full rank is.
    """
    objective = Objective(problem, loss=loss)
    m0 = problem.inputs.shape[-2]
    weights = no_units(problem)
    left, right = weights.w2, weights.w1
    state = objective(weights)
    while True:
        objective.record(state, saddle=True)
        if stop_loss is not None and float(state.loss) <= stop_loss:
            return objective.path(weights, "loss")
        if left.shape[1] >= width or objective.gradients >= max_steps:
            return objective.path(weights, "width")
        pair, rates = pair_of_linear_unit(objective, state)
        if float(rates[0]) <= least_rate:
            return objective.path(weights, "no unit")
        right = torch.linalg.qr(torch.cat([right, pair[None, :m0]]).mT)[0].mT
        left = torch.linalg.qr(torch.cat([left, pair[m0:, None]], dim=1))[0]
        hidden = right @ problem.inputs
        rows, columns = left.shape[1], right.shape[0]

        def function(flat: np.ndarray, u=left, h=hidden) -> tuple[float, np.ndarray]:
            c = torch.from_numpy(flat.reshape(u.shape[1], h.shape[0]).copy())
            value, g = objective.output_gradient(u @ (c @ h))
            return value, (u.mT @ g @ h.mT).numpy().ravel()

        found = minimize(
            function,
            np.zeros(rows * columns),
            jac=True,
            method="L-BFGS-B",
            options={"gtol": tolerance, "ftol": 0.0, "maxfun": max_steps},
        )
        core = torch.from_numpy(found.x.reshape(rows, columns).copy())
        weights = Weights(right, left @ core)
        state = objective(weights)
