"""The ratio of Theorem 1 with a fixed direction, over random problems."""

import math

import numpy as np
import torch
import xarray as xr

from learning_dynamics.saddles.linear_nets.modes import follow_modes, stack_moments
from learning_dynamics.saddles.theory.alignment import escape, worst_angle
from learning_dynamics.saddles.theory.staircase import predict_staircase, visited_map
from paper.saddles.over_the_prior.draws import CHANCE, draw, unsettled

__all__ = ["window"]


def window(number: int) -> xr.Dataset:
    """The ratio of Theorem 1 with a fixed direction, single units, between two scales of its own.

    best, end : powers of epsilon of the least ratio before the first escape (best_predicted), and
    of the ratio at it (predicted 0). best_allowed, end_allowed : by how much they may be off, for
    what follows the leading order, for modes that have not parted, and for reading. The scales are
    such that 1e-6 and 1e-11 are expected, within 1e-130. NaN where there is no second mode to lag,
    a tie, or turning too weak to be seen before the escape (as with commuting inputs).
    """
    drawn, eta, starts, _ = draw(number)
    moments = drawn.problem.moments()
    names = ("best", "best_predicted", "best_allowed", "end", "end_allowed")
    theory, nothing = predict_staircase(moments, eta), xr.Dataset(dict.fromkeys(names, math.nan))
    p, rate = float(theory.exponents[0]), float(theory.escape_rates[0])
    if rate == 0 or not 1e-9 < p <= 1 + 1e-9:  # no task, a tie, or a second mode that shrinks
        return nothing
    power = 2 * p / (2 + p)
    logs = np.minimum(
        math.log(10) * np.array([6.0, 11.0]) / power, math.log(10) * np.array([80, 130])
    )
    out = escape(moments.yx).direction
    v = out[: len(moments.xx)] * 2**0.5
    turn = float((moments.xx @ v - v * (v @ moments.xx @ v)).norm()) / (4 * rate)
    size = 0.1 * float(2 * torch.linalg.svdvals(visited_map(moments, 1, eta))[0]) ** 0.5
    rest = np.exp(CHANCE - power * logs)
    if rest[0] > turn * size**2:
        return nothing
    scales, every = torch.as_tensor(np.exp(-logs))[:, None, None], math.ceil(0.1 / (eta * rate))
    track = follow_modes(
        stack_moments([moments], 2),
        starts[0] * scales,
        step_size=eta,
        steps=int(1.05 * float(theory.drop_steps(float(scales[-1]))[0]) + 20 / (eta * rate)),
        every=every,
        rotate_every=None,
        keep=("modes", "units"),
    )
    angle = worst_angle(track.units, out.expand(1, 1, -1).expand(2, len(track.steps), -1))
    gone = (track.modes[..., 0] >= size).cumsum(-1) > 0
    best = torch.where(gone, torch.inf, angle).amin(-1).log().numpy()
    last = angle.gather(-1, gone.long().argmax(-1, keepdim=True) - 1)[:, 0].log().numpy()
    third = 1.0
    if theory.rates.shape[1] > 2:
        third = 1 - float(torch.log1p(eta * theory.rates[0, 2])) / math.log1p(eta * rate)
    # Between two records the leading mode grows by `read`, the ratio changes by twice that at most,
    # so that the least one is missed by `read`.
    read = every * math.log1p(eta * rate)
    late = np.log1p(np.exp(CHANCE - p * logs) / (turn * size**2))
    terms = unsettled((third - p) * 2 / (2 + p), logs), np.log1p(rest)
    change = sum(abs(term[1] - term[0]) for term in terms) + read
    span = logs[1] - logs[0]
    values = (best[0] - best[1]) / span, power, change / span
    ends = (last[0] - last[1]) / span, (abs(late[1] - late[0]) + 2 * read) / span
    return xr.Dataset(dict(zip(names, values + ends, strict=True)))
