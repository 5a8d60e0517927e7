"""Other losses over random problems: the first alignment, and every later drop of a run."""

import math

import numpy as np
import torch
import xarray as xr

from learning_dynamics.losses import Loss
from learning_dynamics.problems import Problem, random_linear
from learning_dynamics.runtime import generator, normal
from learning_dynamics.saddles.theory.alignment import correlation
from learning_dynamics.saddles.theory.stages import crossing_steps, find_drops
from learning_dynamics.saddles.theory.staircase import recursion, sharpness
from learning_dynamics.saddles.two_layer import gradient_descent, initialise, uniform_grid
from paper.saddles.over_the_prior.draws import unsettled
from paper.saddles.plateau.any_loss import CASES

__all__ = ["DROPS", "other_loss"]

SCALES = (1e-6, 1e-12)
DROPS = 6


def _draw(number: int) -> tuple[str, Problem, Loss, int, float]:
    """The losses in turn; name, data, loss, width and step. Problems without targets are passed
    over, for labels also those with one output or with n < 5 m0 (which might be separable)."""
    name = list(CASES)[number % len(CASES)]
    make, noise, label = CASES[name]
    labels, g = name in ("logistic", "cross-entropy"), generator("over-the-prior/loss", number)
    while True:
        drawn = random_linear(g)
        x, y = drawn.problem.inputs, drawn.problem.targets
        fits = x.shape[1] >= 5 * len(x) and len(y) > 1
        if bool(y.any()) and (fits or not labels):
            break
    size, extra = y.square().mean().sqrt(), normal(*y.shape, generator=g, dtype=torch.float64)
    problem = Problem(x, label(y / size + noise * extra))
    # The limit of the step is that of the squared loss; other losses curve at most three times as
    # much in what they reach here.
    eta = 0.6 * drawn.share / float(sharpness(problem.moments()).max())
    return name, problem, make(problem.targets, g), drawn.width, eta


def other_loss(number: int) -> xr.Dataset:
    """One problem from epsilon = 1e-6 and 1e-12.

    power, exponent, allowed : of epsilon in sigma_2(S)/sigma_1(S) at the first escape; predicted;
    by how much it may be off (parting and reading, see `staircase`).
    raised (drop) : by how much each drop of the curve from 1e-12 raises the rank of W2 W1. lead
    (drop) : by what factor, as a logarithm, the recursion puts the next mode behind at this drop.
    late (drop) : how late the drop is, in logarithms of its mode, as long as each drop before
    raised the rank by one. Drops under way when the run ends are left out.
    """
    name, problem, criterion, width, eta = _draw(number)
    x, y = problem.inputs, problem.targets
    m0, m2, rank = len(x), len(y), min(len(x), len(y))
    rates = torch.zeros(rank, rank, dtype=torch.float64)
    rates[0] = torch.linalg.svdvals(correlation(x, criterion.gradient(torch.zeros_like(y), y)))
    grown = math.log1p(eta * float(rates[0, 0]))
    steps, every = int(min(20_000, -6 * math.log(SCALES[1]) / grown)), math.ceil(0.2 / grown)
    starts = [generator("over-the-prior/loss/start", number) for _ in SCALES]
    track = gradient_descent(
        initialise((m0, width, m2), torch.tensor(SCALES, dtype=torch.float64), starts),
        problem,
        step_size=eta,
        steps=steps,
        loss=criterion,
        record_at=uniform_grid(steps, every),
        observables=("loss", "product", "unit_singular_values"),
    )
    spare, logs = m0 + m2 - 2 * rank, -np.log(np.array(SCALES) * width**0.5)
    p, power, allowed = float(recursion(rates, eta, spare=spare)[1][0]), math.nan, math.nan
    modes = track["unit_singular_values"].clamp_min(1e-300).log()
    if modes.shape[-1] > 1 and p <= 1 + 1e-9:  # a second mode, and one that does not shrink
        at = crossing_steps(-modes[..., 0], modes.new_full((2, 1), -math.log(0.03)), track.steps)
        curves = zip(at[:, 0].tolist(), (modes[..., 1] - modes[..., 0]).numpy(), strict=True)
        low, high = (np.interp(step, track.steps.numpy(), curve) for step, curve in curves)
        power = (low - high) / (logs[1] - logs[0])
        third = 1 - math.log1p(eta * float(rates[0, 2])) / grown if rank > 2 else 1.0
        change = sum(abs(np.diff(unsettled(lead, logs))[0]) for lead in (p, third - p))
        allowed = (change + every * grown / 4) / (logs[1] - logs[0])

    at, rests = find_drops(track["loss"][1], track.steps)
    ended = len(track.steps) - 1
    at, rests = at[at < ended], rests[: int((at < ended).sum()) + 1]
    maps = track["product"][1, rests]
    values = torch.linalg.svdvals(maps)
    raised = (values > 0.005 * values[:, :1].clamp_min(0.02)).sum(-1).diff().numpy()
    drops = min(len(at), rank, DROPS)
    for k in range(drops):
        residual = correlation(x, criterion.gradient(maps[k] @ x, y))
        rates[k, : rank - k] = torch.linalg.svdvals(residual)[: rank - k]
    times, exponents = recursion(rates, eta, spare=spare)
    late = (track.steps[at[:drops]] - times[:drops] * logs[1] / eta) * torch.log1p(
        eta * rates[:drops, 0]
    )
    alone = np.cumprod(np.concatenate([[1], raised[:drops] == 1]))[:drops] == 1

    variables: dict[str, object] = {"loss": name, "power": power}
    variables |= {"power_predicted": p, "power_allowed": allowed}
    for key, values in (
        ("raised", raised[:DROPS]),
        ("lead", (exponents[:drops] * logs[1]).numpy()),
        ("late", np.where(alone, late.numpy(), np.nan)),
    ):
        row = np.full(DROPS, np.nan)
        row[: len(values)] = values
        variables[key] = "loss_drop", row
    return xr.Dataset(variables)
