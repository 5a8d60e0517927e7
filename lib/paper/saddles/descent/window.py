"""Lemma 2 between the first and the second escape: printed form, fixed direction, true form."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr

from learning_dynamics.runtime import generator
from learning_dynamics.saddles.linear_nets.modes import follow_modes
from learning_dynamics.saddles.theory.alignment import update_matrix
from learning_dynamics.saddles.theory.growth_bound import growth_bound, leading_projector
from learning_dynamics.saddles.theory.stages import first_record
from paper.claims import Evidence
from paper.saddles.random_linear import at_relative_step, moments_with_gaps, unit_starts

__all__ = ["Config", "evidence", "run"]


@dataclass(frozen=True)
class Config:
    """One group of runs: problems x starts, one covariance, one eta s_1.

    The window lasts from sigma_1(S) = threshold to sigma_2(S) = threshold.
    """

    problems: int = 10
    starts: int = 12
    covariance: str = "generic"
    relative_step: float = 0.2
    scale: float = 1e-6
    threshold: float = 0.1
    width: int = 8


def run(config: Config = Config()) -> xr.Dataset:
    """Follow all runs step by step and hold the three forms against them; (run):

    violations : steps at which sigma_2(S) grew by more than the bound (our form).
    growth     : log of the growth of sigma_2(S) over the window; bound : sum of log bounds.
    slack      : (bound - growth)/growth.
    printed    : whether some unit broke |(I - P1) w(t1 + t)| <= e^t |(I - P1) w(t1)|.
    chosen     : the same with a P1 drawn at random, which the printed "there is" allows.
    fixed      : whether |S(I - P1)|, P1 fixed at t1, broke the product of its own growth rates.
    prior      : what is known beforehand of the bound, (steps) log(1 + eta max sigma_1(R)).

    (step), of the first run: what grows outside in the window, `second`, `outside`, and what bounds
    it, `our_bound`, `own_bound`, `printed_bound`.
    """
    batch = moments_with_gaps(config.problems, covariance=config.covariance)
    batch = [moments for moments in batch for _ in range(config.starts)]
    runs, eta, theory = at_relative_step(batch, config.relative_step)
    last = theory.drop_steps(config.scale)[:, 1]
    shape = (config.width, 10)
    track = follow_modes(
        runs,
        unit_starts(len(eta), (config.scale,), shape, seed="descent-window"),
        step_size=eta,
        steps=int(1.1 * float(last.max()) + 20 / config.relative_step),
        every=1,
        rotate_every=None,  # the printed form is about single units
        keep=("units", "modes"),
    )
    draws = generator("descent-window", "any projection")
    found = []
    curves: dict[str, torch.Tensor] = {}
    for i in range(len(eta)):
        modes = track.modes[i]
        start, end = (int(first_record(modes[:, k] >= config.threshold)) for k in (0, 1))
        s, second = track.units[i, start : end + 1], modes[start : end + 1, 1]
        w = s[..., 6:].mT @ s[..., :6]
        residual = runs.yx[i] - w @ runs.xx[i]
        update = update_matrix(residual, float(eta[i]))
        fastest = float(torch.linalg.matrix_norm(residual[:-1], ord=2).max())
        now = leading_projector(s[:-1])
        factor = growth_bound(update[:-1], now)
        steps = torch.arange(len(s), dtype=s.dtype)

        anywhere = torch.randn(10, 1, generator=draws, dtype=s.dtype)
        anywhere = anywhere @ anywhere.mT / anywhere.square().sum()
        breach, breach_chosen = (
            (outside / outside[0]).log().amax(-1) - steps
            for outside in ((s - s @ p).norm(dim=-1) for p in (now[0], anywhere))
        )
        keep = torch.eye(10, dtype=s.dtype) - now[0]
        own = torch.linalg.matrix_norm(keep @ update[:-1] @ keep, ord=2).log().cumsum(0)
        whole = torch.linalg.matrix_norm(s - s @ now[0], ord=2)

        tolerance = 1e-9  # rounding of sigma_2, relative
        growth, bound = float((second[-1] / second[0]).log()), float(factor.log().sum())
        found.append(
            {
                "violations": int((second[1:] > factor * second[:-1] * (1 + tolerance)).sum()),
                "growth": growth,
                "bound": bound,
                "slack": (bound - growth) / growth,
                "printed": bool((breach > tolerance).any()),
                "chosen": bool((breach_chosen > tolerance).any()),
                "prior": (len(s) - 1) * math.log1p(float(eta[i]) * fastest),
                "fixed": bool(((whole[1:] / whole[0]).log() > own + tolerance).any()),
            }
        )
        if i == 0:
            whole_bound = torch.cat([own.new_zeros(1), own])
            our_bound = torch.cat([own.new_zeros(1), factor.log().cumsum(0)])
            curves = {
                "second": second,
                "our_bound": second[0] * our_bound.exp(),
                "outside": whole,
                "own_bound": whole[0] * whole_bound.exp(),
                "printed_bound": whole[0] * steps.exp(),
            }
    return xr.Dataset(
        {name: ("run", np.array([row[name] for row in found])) for name in found[0]}
        | {name: ("step", curve.numpy()) for name, curve in curves.items()}
    )


RELATIVE_STEPS = (0.05, 0.2, 0.6)


def evidence(quick: bool = False) -> Evidence:
    """For `saddles/descent-window`: breaches of the true bound (0), its largest slack, that of what
    is known beforehand, and how often the printed form is broken, by eta s_1 and kind of inputs:
    with P1 the leading direction at t1, and (`chosen`) with a P1 drawn at random."""
    size = {"problems": 8, "starts": 1} if quick else {"problems": 14, "starts": 12}
    groups = {
        (covariance, relative): run(Config(covariance=covariance, relative_step=relative, **size))
        for covariance in ("generic", "commuting")
        for relative in RELATIVE_STEPS
    }
    whole = xr.concat([w.drop_dims("step") for w in groups.values()], "run")
    prior = whole.prior / whole.growth - 1

    def rate(name: str, covariance: str) -> list[float]:
        return [float(groups[covariance, r][name].mean()) for r in RELATIVE_STEPS]

    return Evidence(
        measured=[float(whole.violations.sum()), float(whole.slack.max())],
        predicted=[0.0, 0.0],
        tolerance=[0.0, 0.1],
        seeds=list(range(size["problems"] * size["starts"])),
        details={
            "runs": whole.sizes["run"],
            "printed_broken_generic": rate("printed", "generic"),
            "printed_broken_commuting": rate("printed", "commuting"),
            "chosen_broken": [sum(rate("chosen", c)) for c in ("generic", "commuting")],
            "prior_slack": [float(prior.median()), float(prior.max())],
            "fixed_broken_generic": rate("fixed", "generic"),
            "fixed_broken_commuting": rate("fixed", "commuting"),
        },
    )
