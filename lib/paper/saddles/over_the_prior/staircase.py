"""Drops, levels and exponents of random problems, and how far theory lets them be off.

Every law says that something is a power of epsilon, or a time in units of log(1/epsilon), up to a
factor. So a slope between two scales is off by as much as that factor still changes, and theory
says by how much it can (`_allowed`). Nothing is fitted, and tolerances are known before the run.

Not judged, by what is known before the run: drops after the sixth, or predicted after too many
steps at the smallest scale; modes that the start has no units for; exponents above 1, of modes
that shrink and are lost to rounding.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from learning_dynamics.problems import Moments
from learning_dynamics.saddles.linear_nets.modes import ModeRun, follow_modes, stack_moments
from learning_dynamics.saddles.theory.stages import (
    arrival_rate,
    crossing_steps,
    find_drops,
    log_excess,
)
from learning_dynamics.saddles.theory.staircase import (
    Staircase,
    predict_staircase,
    residual_correlation,
    visited_map,
)
from paper.saddles.over_the_prior.draws import CHANCE, Config, draw, unsettled

__all__ = ["RESTED", "staircase"]

RESTED = math.log(1e-3)  # predicted log distance from the level below which a plateau is judged


@dataclass(frozen=True)
class _Allowed:
    """What the theory leaves open, (drops,): nats (scale, drops), how far the logarithm of a mode
    may be off at its drop; slope, the same per log(1/epsilon) between the two smallest scales.
    distance : predicted log distance from the level after the drop, at the smallest scale, 0 for
    the last."""

    nats: np.ndarray
    slope: np.ndarray
    distance: np.ndarray


def _allowed(
    moments: Moments, theory: Staircase, eta: float, logs: np.ndarray, every: int, drops: int
) -> _Allowed:
    """logs (scale,) : log(1/size) of S at the start. every : steps between records.

    * Arrival: after a drop R differs from that of the saddle during (1 - exp(-a D))/a, D the
      length of the plateau, a the rate of arrival. Meanwhile a dormant mode may grow at any rate up
      to g, that of the escape before.
    * Turning: the direction that escapes need not be the one that ends in the map; from an overlap
      c it takes log(1/c)/a to get there, or the whole plateau.
    * Parting: modes of nearly one exponent are mistaken for each other (`unsettled`).
    * Reading: a quarter of a record, and of a step at each drop before.
    """
    rates, rank = np.log1p(eta * theory.rates.numpy()) / eta, len(theory.times)
    waits = np.diff(theory.times[theory.times.isfinite()].numpy(), prepend=0)
    before: list[np.ndarray] = []
    exponents, steps = np.ones(rank + 2), 0.0
    nats, slope, distance = [], [], np.zeros(drops)
    for k in range(drops):
        growth = np.pad(rates[k, : rank - k], (0, 2))[: len(exponents)]
        exponents = (exponents - growth * waits[k])[1:]
        here = unsettled(float(theory.exponents[k]), logs)
        terms = [*before, here, unsettled(float(exponents[1] - exponents[0]), logs)]
        reading = eta * (every * rates[k, 0] + steps) / 4
        nats.append(sum(terms) + reading + CHANCE)
        change = sum(abs(term[-1] - term[-2]) for term in terms)
        slope.append((change + reading) / (logs[-1] - logs[-2]))
        before.append(here)
        steps += rates[k, 0]
        if k + 1 < len(waits):
            a, length = float(arrival_rate(moments, k + 1, eta)), waits[k + 1] * logs
            new = visited_map(moments, k + 1, eta) - visited_map(moments, k, eta)
            ends = torch.linalg.svd(new)[0][:, 0]
            escapes = torch.linalg.svd(residual_correlation(moments, k, eta))[0][:, 0]
            turning = np.minimum(-math.log(max(float((ends @ escapes).abs()), 1e-300)) / a, length)
            before += [rates[k, 0] / a * -np.expm1(-a * length), rates[k, 0] * turning]
            excess = log_excess(moments, theory, k + 1, float(np.exp(-logs[-1])))
            distance[k] = excess * (1 - turning[-1] / length[-1])
    return _Allowed(np.stack(nats, -1), np.array(slope), distance)


def _ratios(track: ModeRun, sizes: Tensor) -> np.ndarray:
    """log sigma_{k+1}/sigma_k where sigma_k(S) passes a tenth of its size at the saddle, (runs,
    drops); NaN where S has no such mode."""
    logs = track.modes.clamp_min(1e-300).log()
    level = -(0.1 * sizes).log().expand(len(logs), -1)
    found = np.full(level.shape, np.nan)
    for k in range(min(len(sizes), logs.shape[-1] - 1)):
        when = crossing_steps(-logs[..., k], level[:, k : k + 1], track.steps)[:, 0]
        for run, curve in enumerate((logs[..., k + 1] - logs[..., k]).numpy()):
            found[run, k] = np.interp(float(when[run]), track.steps.numpy(), curve)
    return found


def _rests(
    track: ModeRun, levels: Tensor, steps: Tensor, end: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """Of the third run: drops until `end`, counted from the curve alone; and on each plateau, at
    its slowest step, the distance from the level (over the smaller drop beside it) and
    (sigma_{k+1}/sigma_k)^2."""
    losses, modes = track.losses[2], track.modes[2]
    peaks = find_drops(losses, track.steps, accuracy=1e-13)[0]
    speed = torch.gradient(losses, spacing=(track.steps.double(),))[0].abs()
    distance, following = np.full((2, len(steps)), np.nan)
    for k in range(1, len(steps)):
        inside = (track.steps >= steps[k - 1]) & (track.steps <= steps[k])
        if bool(inside.any()):
            at = int(torch.where(inside, speed, torch.inf).argmin())
            height = float((levels[k - 1 : k + 2].diff().abs()).min())
            distance[k - 1] = abs(float(losses[at] - levels[k])) / height
            following[k - 1] = float((modes[at, k] / modes[at, k - 1]).square())
    return float((track.steps[peaks] <= end).sum()), distance, following


def staircase(number: int, config: Config) -> xr.Dataset:
    """Drops, levels and exponents of one problem, from both starts at all scales."""
    drawn, eta, starts, name = draw(number)
    moments, scales = drawn.problem.moments(), torch.tensor(config.scales, dtype=torch.float64)
    theory, sizes = predict_staircase(moments, eta), np.array(config.scales) * drawn.width**0.5
    predicted = torch.stack([theory.drop_steps(float(e)) for e in sizes]).numpy()
    drops = min(drawn.width, config.drops, int((predicted[-1] <= config.steps).sum()))
    drawn_as: dict[str, object] = {
        "inputs": len(moments.xx),
        "outputs": len(moments.yy),
        "width": drawn.width,
    }
    drawn_as |= {"samples": drawn.problem.inputs.shape[-1], "kind": drawn.inputs}
    drawn_as |= {"trait": drawn.trait, "other": name, "share": drawn.share}
    fastest = eta * float(theory.escape_rates[0])
    dims, shape = ("start", "scale", "drop"), (2, len(sizes), config.drops)
    over: dict[tuple[str, ...], tuple[str, ...]] = {
        dims: ("steps", "ratio"),
        dims[1:]: ("nats", "predicted"),
    }
    over[dims[2:]] = ("exponent", "growth", "slope", "expected", "distance", "following")
    empty = {
        name: (dims, np.full(shape[-len(dims) :], np.nan))
        for dims, names in over.items()
        for name in names
    }
    result = xr.Dataset(drawn_as | {"relative_step": fastest, "drops": drops, "found": 0.0} | empty)
    if not drops:
        return result
    every = math.ceil(0.3 / fastest)
    last = float(theory.escape_rates[drops - 1])
    track = follow_modes(
        stack_moments([moments], 2 * len(sizes)),
        (starts[:, None] * scales[:, None, None]).flatten(0, 1),
        step_size=eta,
        steps=int(1.1 * predicted[-1, drops - 1] + 10 / (eta * last)),
        every=every,
    )
    levels = theory.levels
    middle = ((levels[1:] + levels[:-1]) / 2)[:drops].expand(len(track.losses), -1)
    steps = crossing_steps(track.losses, middle, track.steps)
    maps = [visited_map(moments, k, eta) for k in range(1, drops + 1)]
    full = torch.stack([torch.linalg.svdvals(w)[k] for k, w in enumerate(maps)])
    ratios = _ratios(track, (2 * full).sqrt()).reshape(2, len(sizes), -1)
    ratios[..., theory.exponents[:drops].numpy() > 1 + 1e-9] = np.nan
    times = steps.numpy().reshape(ratios.shape).copy()
    for i, start in enumerate(starts):  # a start has no units for more modes than its rank
        rank = int(torch.linalg.matrix_rank(start))
        times[i, :, rank:], ratios[i, :, max(rank - 1, 0) :] = np.nan, np.nan
    allowed = _allowed(moments, theory, eta, -np.log(sizes), every, drops)
    following = predicted[-1, drops] if drops < len(levels) - 1 else math.inf
    end = (float(steps[2, -1]) + float(following)) / 2
    found, distance, ratio = _rests(track, levels, steps[2], end)
    values = {
        "steps": times,
        "ratio": ratios,
        "nats": allowed.nats,
        "predicted": predicted[:, :drops],
        "exponent": theory.exponents[:drops],
        "growth": torch.log1p(eta * theory.escape_rates[:drops]),
        "slope": allowed.slope,
        "expected": allowed.distance,
        "distance": distance,
        "following": ratio,
    }
    for key, value in values.items():
        result[key][..., :drops] = np.asarray(value)
    return result.assign(found=found)
