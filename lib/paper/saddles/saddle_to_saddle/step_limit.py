"""How large may a step be? Below 2 over the curvature of the saddles that are passed."""

from dataclasses import dataclass, replace

import torch
import xarray as xr

from learning_dynamics.runtime import generator
from learning_dynamics.saddles.theory.staircase import predict_staircase, sharpness
from learning_dynamics.saddles.two_layer import gradient_descent, initialise
from paper.claims import Evidence, claim
from paper.saddles.random_linear import problems_with_gaps, stack_problems

__all__ = ["Config", "run", "step_limit"]


@dataclass(frozen=True)
class Config:
    """problems : random, generic inputs, no gap asked for. shares : eta over 2/a, a the largest
    curvature at the saddles of the problem and its minimum. scale : epsilon."""

    problems: int = 60
    shares: tuple[float, ...] = (0.5, 0.9, 0.98, 1.05, 1.25, 1.5, 2.0)
    scale: float = 1e-8
    steps: int = 6000

    def quick(self) -> "Config":
        return replace(self, problems=12)


def run(config: Config = Config()) -> xr.Dataset:
    """Every problem at every step size, from near the origin to its end.

    Dimensions problem, share. imbalance : |W1 W1' - W2' W2| at the end over that of the sum, NaN
    for a run that diverged. excess : loss at the end above its least value, per initial loss.
    beyond : whether `predict_staircase` flags one of the saddles. relative_step : eta s_1.
    """
    shares, runs = config.shares, range(config.problems)
    batch = problems_with_gaps(config.problems, least_gap=0.0, seed="step-limit")
    problem, _ = stack_problems([one for one in batch for _ in shares])
    moments = problem.moments()
    share = torch.tensor(shares, dtype=torch.float64).repeat(config.problems)
    eta = 2 * share / sharpness(moments).amax(-1)
    theory = predict_staircase(moments, eta)
    starts = [generator("step-limit/start", i) for i in runs for _ in shares]
    track = gradient_descent(
        initialise((6, 10, 4), config.scale, starts),
        problem,
        step_size=eta,
        steps=config.steps,
        record_at=torch.tensor([0, config.steps]),
        on_divergence="mark",
    )
    first, last = track.final.w1 @ track.final.w1.mT, track.final.w2.mT @ track.final.w2
    imbalance = (first - last).norm(dim=(1, 2)) / (first + last).norm(dim=(1, 2))
    gone = track.diverged_at >= 0
    excess = (track["loss"][:, -1] - theory.levels[:, -1]) / track["loss"][:, 0]
    variables = {
        "imbalance": torch.where(gone, torch.nan, imbalance),
        "diverged": gone.double(),
        "excess": torch.where(gone, torch.nan, excess),
        "beyond": theory.beyond.any(-1).double(),
        "relative_step": eta * theory.escape_rates[:, 0],
    }
    grid = config.problems, len(shares)
    data = {name: (("problem", "share"), v.reshape(grid)) for name, v in variables.items()}
    return xr.Dataset(data, {"problem": runs, "share": list(shares)})


@claim("saddles/step-limit", Config, run)
def step_limit(result: xr.Dataset) -> Evidence:
    """Imbalance at the end just above the limit over that just below it, least problem first."""
    below, above = (s for s in (result.share < 1, result.share > 1))
    under, over = (result.isel(share=s.values) for s in (below, above))
    jump = over.imbalance.isel(share=0) / under.imbalance.isel(share=-1)
    limit = result.relative_step.isel(share=0) / result.share[0]
    details = {
        "before": (under.imbalance.isel(share=-1) / under.imbalance.isel(share=-2)).max(),
        "imbalance_below": under.imbalance.max(),
        "diverged_below": under.diverged.sum(),
        "diverged_above": over.diverged.mean("problem"),
        "excess_below": abs(under.excess).max(),
        "flags": [under.beyond.mean(), over.beyond.mean()],
        "relative_step": [limit.min(), limit.max()],
    }
    return Evidence(jump.min(), 2.0, 0.0, result.problem, details)
