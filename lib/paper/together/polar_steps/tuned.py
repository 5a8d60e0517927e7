"""One rule at many rates: which is best, how soon it learns, and what each layer does."""

from collections.abc import Callable, Sequence

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.problems import Problem
from learning_dynamics.saddles.theory.stages import crossing_steps
from paper.together.polar_steps.descent import Rule, changes, descend

__all__ = ["tune"]

#: Share of the steps, at the end, over which the loss is averaged: polar steps of fixed length
#: end in oscillations.
END = 0.2


def _vertex(log_rates: Tensor, values: Tensor, at: Tensor) -> Tensor:
    """Where the parabola through the least of `values` (runs, rates) and its neighbours is least.

    Rates equally spaced. Raises ValueError if the least value stands at either end.
    """
    if bool(((at == 0) | (at == len(log_rates) - 1)).any()):
        raise ValueError(
            f"rates: 2^{log_rates[0]:.2f} to 2^{log_rates[-1]:.2f}: the best stands at an end, "
            "allowed are rates on both sides of it"
        )
    low, mid, high = (values.gather(1, at[:, None] + k)[:, 0] for k in (-1, 0, 1))
    bend = low - 2 * mid + high
    shift = torch.where(bend > 0, 0.5 * (low - high) / bend, 0.0).clamp(-0.5, 0.5)
    return log_rates[at] + shift * (log_rates[1] - log_rates[0])


def tune(
    weights: Sequence[Float[Tensor, "seeds _ _"]],
    multipliers: Sequence[float],
    problem: Problem,
    make_rule: Callable[[], Rule],
    log_rates: Float[Tensor, " rates"],
    *,
    steps: int,
    ratios: Sequence[float] | None = None,
    activation: str = "relu",
) -> xr.Dataset:
    """`descend` from every seed's weights at rates 2^log_rates.

    end (seed, rate) : loss, mean over the last fifth of the steps, in units of that of f = 0.
    best (seed) : log2 of the best rate, the vertex of a parabola in the logarithms of rate and end.
    loss (seed, step), half (seed), change (seed, layer) : at the best rate of the grid: the curve,
    steps to half of the loss of f = 0, and each layer's own change at the end, in spectral norm.
    """
    seeds, rates = len(weights[0]), len(log_rates)
    start = [w.repeat_interleave(rates, 0) for w in weights]
    losses, final = descend(
        start,
        multipliers,
        problem,
        make_rule(),
        step_size=(2.0 ** log_rates.double()).repeat(seeds),
        steps=steps,
        ratios=ratios,
        activation=activation,
    )
    end = losses[:, -round(END * steps) :].mean(1).reshape(seeds, rates)
    at = end.argmin(1)
    best = _vertex(log_rates, end.log2().clamp_max(100), at)
    rows = torch.arange(seeds) * rates + at
    curve = losses[rows].double()
    half = crossing_steps(curve, torch.full((seeds, 1), 0.5).double(), torch.arange(steps + 1))
    return xr.Dataset(
        {
            "end": (("seed", "rate"), end),
            "best": ("seed", best),
            "loss": (("seed", "step"), curve),
            "half": ("seed", half[:, 0]),
            "change": (("seed", "layer"), changes([w[rows] for w in final], weights)),
        },
        {"seed": range(seeds), "layer": range(1, len(weights) + 1)},
    )
