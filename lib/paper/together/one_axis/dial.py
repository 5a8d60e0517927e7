"""The dial on which both theses stand: one number says how rich a network's training is.

For 1-homogeneous activations without biases the run depends on the initial deviations and on the
*product* of the multipliers alone (re-gauge); if all layers share one deviation s, the abc
symmetry leaves two numbers: rho, the scale of the output at the start, and the step size. DP(r) has
rho = n_min^-r exactly, at a step size that keeps the initial speed of the output.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.activations import Activation
from learning_dynamics.problems import Problem
from learning_dynamics.saddles.two_layer import Weights, gradient_descent
from learning_dynamics.scales.parametrizations import Parametrization
from learning_dynamics.scales.training import initialise, sgd

__all__ = ["Position", "SameRun", "losses_of", "losses_of_part_one", "position", "same_run"]


@dataclass(frozen=True)
class Position:
    """Where a parametrization with equal deviations s stands.

    output_scale : rho = prod_l g_l s sqrt(n_{l-1}): RMS of f(x) at the start if x has RMS 1
                   (times sqrt 2 per linear layer that has a ReLU gain).
    laziness     : Lambda = rho sqrt(n_min). Above 1 lazy, below 1 towards the saddle.
    time_power        : rho^2 / s^2, the factor between eta and the initial speed of the output.
    """

    output_scale: float
    laziness: float
    time_power: float


@dataclass(frozen=True)
class SameRun:
    """Another parametrization gives the same run with `weights` times its initial weights and
    `step_size` times the step size."""

    weights: float
    step_size: float


def _common(p: Parametrization) -> tuple[float, float]:
    """s and log prod g; raises ValueError unless all deviations and learning rates agree."""
    for name in ("init_stds", "learning_rates"):
        values = getattr(p, name)
        if max(values) > (1 + 1e-9) * min(values):
            raise ValueError(
                f"{name} = {values}: must be equal in all layers for a place on the dial"
            )
    if abs(p.learning_rates[0] - 1) > 1e-9:
        raise ValueError("learning_rates: must be 1; use with_unit_learning_rates()")
    return p.init_stds[0], sum(math.log(g) for g in p.multipliers)


def position(p: Parametrization) -> Position:
    """The place of `p` on the dial. Raises ValueError if its layers differ in deviation."""
    s, log_g = _common(p)
    log_rho = log_g + sum(math.log(s) + 0.5 * math.log(n) for n in p.widths[:-1])
    rho = math.exp(log_rho)
    return Position(rho, rho * math.sqrt(min(p.widths[1:-1])), (rho / s) ** 2)


def same_run(p: Parametrization, other: Parametrization) -> SameRun:
    """How `other` must be changed to run exactly like `p` (1-homogeneous activations).

    theta = (prod g_other / prod g_p)^(1/L); weights s_p/(theta s_other), step size 1/theta^2.
    """
    if p.widths != other.widths:
        raise ValueError(f"other: widths {other.widths} must be {p.widths}")
    s, log_g = _common(p)
    s_other, log_g_other = _common(other)
    theta = math.exp((log_g_other - log_g) / p.depth)
    return SameRun(s / (theta * s_other), 1 / theta**2)


def losses_of(
    p: Parametrization,
    problem: Problem,
    *,
    seed: int,
    step_size: float,
    steps: int,
    weight_factor: float = 1.0,
    output_factor: float = 1.0,
    activation: str | Activation = "relu",
) -> Float[Tensor, " records"]:
    """Training loss at steps 0..steps, full-batch, float64.

    weight_factor multiplies all initial weights, output_factor the last multiplier.
    """
    state = initialise(p.widths, p.weight_stds, [seed], dtype=torch.float64)
    for w in state.weights:
        w.mul_(weight_factor)
    run = sgd(
        problem,
        state,
        [*p.multipliers[:-1], p.multipliers[-1] * output_factor],
        seeds=[seed],
        step_size=step_size,
        steps=steps,
        batch_size=problem.inputs.shape[-1],
        activation=activation,
        evaluate={"train": problem},
        record=range(steps + 1),
    )
    return run["train_loss"][0]


def losses_of_part_one(
    p: Parametrization, problem: Problem, *, seed: int, step_size: float, steps: int
) -> Float[Tensor, " records"]:
    """The same run of two ReLU layers by the kernel of Part I, f = W2 sigma(W1 X).

    W_1 and W_2 of p times sqrt(g_1 g_2); step size g_1 g_2 eta.
    """
    g = math.prod(p.multipliers)
    w1, w2 = initialise(p.widths, p.weight_stds, [seed], dtype=torch.float64).weights
    run = gradient_descent(
        Weights(math.sqrt(g) * w1, math.sqrt(g) * w2),
        problem,
        step_size=g * step_size,
        steps=steps,
        activation="relu",
        record_at=torch.arange(steps + 1),
    )
    return run["loss"][0]


def largest_gap(a: Sequence[float] | Tensor, b: Sequence[float] | Tensor) -> float:
    """max |a - b| / max |a| of two loss curves."""
    x, y = torch.as_tensor(a), torch.as_tensor(b)
    return float((x - y).abs().max() / x.abs().max())
