"""Does each plateau rest on the reduced-rank level? Many problems, one step size."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.problems import Moments, linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.theory.stages import Stages, find_drops, find_stages, log_excess
from learning_dynamics.saddles.theory.staircase import Staircase, predict_staircase
from learning_dynamics.saddles.two_layer import gradient_descent, initialise, uniform_grid
from paper.saddles.random_linear import stack_problems

__all__ = ["RankKSaddles", "Rests", "run"]

#: A plateau counts as strong if its predicted excess is below this: the 1 % of the claim, less a
#: factor of ten for the constants that the leading order leaves out.
STRONG = 1e-3


@dataclass(frozen=True)
class RankKSaddles:
    """Target spectrum (3, 1.5, 0.6), generic inputs; each seed is a new problem and start."""

    seeds: int = 10
    target_spectrum: tuple[float, ...] = (3.0, 1.5, 0.6)
    units: int = 10
    init_scale: float = 1e-14
    step_size: float = 0.05
    steps: int = 2500


@dataclass(frozen=True)
class Rests:
    """What was measured at the slowest step of plateaus 1 and 2, and at the end.

    excess     : (seeds, 2), |L - level k|/level k.
    log_excess : (seeds, 2), its predicted logarithm.
    strong     : (seeds, 2), whether the prediction says that the plateau can be rested on.
    ranks      : (seeds, 3), singular values of W2 W1 above 1 % of the largest: at the slowest
                 steps of plateaus 1 and 2, and at the end.
    final      : (seeds,), (L - level 3)/L(0) at the last step.
    drops      : (seeds,), number of drops that `find_drops` finds without knowing the levels.
    """

    config: RankKSaddles
    losses: Float[Tensor, "seeds records"]
    staircase: Staircase
    stages: Stages
    excess: Float[Tensor, "seeds 2"]
    log_excess: Float[Tensor, "seeds 2"]
    strong: Tensor
    ranks: Tensor
    final: Float[Tensor, " seeds"]
    drops: Tensor


@lru_cache
def run(config: RankKSaddles = RankKSaddles()) -> Rests:
    """Train all seeds at once and measure where they rest."""
    problems = [
        linear_teacher(
            generator=generator("rank-k-saddles", s), target_spectrum=config.target_spectrum
        )
        for s in range(config.seeds)
    ]
    problem, _ = stack_problems(problems)
    moments = problem.moments()
    m0, m2 = problem.inputs.shape[-2], problem.targets.shape[-2]
    trajectory = gradient_descent(
        initialise(
            (m0, config.units, m2),
            config.init_scale,
            [generator("rank-k-saddles/start", s) for s in range(config.seeds)],
        ),
        problem,
        step_size=config.step_size,
        steps=config.steps,
        record_at=uniform_grid(config.steps, 1),
        observables=("loss", "product"),
    )
    rank = len(config.target_spectrum)
    staircase = predict_staircase(moments, config.step_size)
    levels = staircase.levels[:, : rank + 1]
    losses = trajectory["loss"]
    stages = find_stages(losses, levels, trajectory.steps)
    at = stages.plateau_steps[:, 1:].long()
    maps = trajectory["product"][torch.arange(config.seeds)[:, None], at]
    values = torch.linalg.svdvals(maps)
    predicted = [
        [
            log_excess(
                Moments(moments.xx[s], moments.yx[s], moments.yy[s]),
                Staircase(
                    staircase.levels[s],
                    staircase.rates[s],
                    staircase.times[s],
                    staircase.exponents[s],
                    staircase.step_size,
                ),
                k,
                config.init_scale,
            )
            for k in range(1, rank)
        ]
        for s in range(config.seeds)
    ]
    inner = slice(1, rank)
    excess = (stages.plateau_losses[:, inner] / levels[:, inner] - 1).abs()
    log_prediction = torch.tensor(predicted, dtype=losses.dtype)
    return Rests(
        config=config,
        losses=losses,
        staircase=staircase,
        stages=stages,
        excess=excess,
        log_excess=log_prediction,
        strong=log_prediction.exp() < STRONG,
        ranks=(values > 0.01 * values[..., :1]).sum(-1),
        final=(losses[:, -1] - levels[:, -1]) / losses[:, 0],
        drops=torch.tensor([len(find_drops(c, trajectory.steps)[0]) for c in losses]),
    )
