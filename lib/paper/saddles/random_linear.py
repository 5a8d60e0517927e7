"""Random linear problems with generic (anisotropic, non-commuting) inputs, and random starts."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.problems import Moments, Problem, linear_teacher
from learning_dynamics.runtime import check_integer, check_positive, generator
from learning_dynamics.saddles.linear_nets.modes import ModeRun, follow_modes, stack_moments
from learning_dynamics.saddles.theory import staircase

__all__ = [
    "at_relative_step",
    "follow_grid",
    "gaps",
    "moments_with_gaps",
    "problems_with_gaps",
    "stack_problems",
    "unit_starts",
]


def gaps(moments: Moments) -> Float[Tensor, "*runs"]:
    """Least relative gap that matters: between the two leading escape rates at each saddle, and
    between successive losses gained (the eigenvalues mu_k of reduced-rank regression)."""
    theory = staircase.predict_staircase(moments)
    rates, gains = theory.rates, -theory.levels.diff(dim=-1)
    rank = rates.shape[-1]
    pairs = [rates[..., k, 0] / rates[..., k, 1] for k in range(rank - 1)]
    pairs += [gains[..., k] / gains[..., k + 1] for k in range(rank - 1)]
    return torch.stack(pairs, dim=-1).amin(-1) - 1


def problems_with_gaps(
    count: int,
    *,
    least_gap: float = 0.1,
    covariance: str = "generic",
    seed: str = "random-linear",
    sizes: tuple[int, int] = (6, 4),
) -> list[Problem]:
    """`count` problems with random spectra (log-uniform) and bases whose `gaps` are large enough.

    sizes : (m0, m2). Eigenvalues of Sigma_xx lie in 0.3 .. 3, singular values of the teacher in
    0.5 .. 3. Problems with a smaller gap are passed over; the draw is the same for every count.
    """
    check_integer("count", count, least=1)
    check_positive("least_gap", least_gap, zero=True)
    m0, m2 = sizes
    problems: list[Problem] = []
    trial = 0
    while len(problems) < count:
        g = generator(seed, covariance, trial)
        trial += 1
        draws = torch.rand(m0 + min(m0, m2), generator=g, dtype=torch.float64)
        spectrum = 0.3 * 10 ** draws[:m0]
        target = 0.5 * 6 ** draws[m0:]
        problem = linear_teacher(
            generator=g,
            covariance=covariance,
            output_dim=m2,
            input_spectrum=tuple(spectrum.sort(descending=True).values.tolist()),
            target_spectrum=tuple(target.sort(descending=True).values.tolist()),
        )
        if float(gaps(problem.moments())) >= least_gap:
            problems.append(problem)
    return problems


def moments_with_gaps(count: int, **options) -> list[Moments]:
    """The moments of `problems_with_gaps`."""
    return [problem.moments() for problem in problems_with_gaps(count, **options)]


def stack_problems(problems: Sequence[Problem]) -> tuple[Problem, Float[Tensor, "runs m2 m0"]]:
    """All problems as one, the run in front, and their teachers."""
    x = torch.stack([p.inputs for p in problems])
    y = torch.stack([p.targets for p in problems])
    return Problem(x, y), torch.stack([p.teacher for p in problems if p.teacher is not None])


def unit_starts(
    count: int, scales: Sequence[float], shape: tuple[int, int], seed: str = "random-linear"
) -> Float[Tensor, "runs m1 coordinate"]:
    """Gaussian units, for each of `count` seeds at each scale: run = seed * len(scales) + scale.

    One direction per seed, so that runs differ by the factor epsilon alone.
    """
    seeds = [generator(seed, "start", i) for i in range(count)]
    rows = [torch.randn(*shape, generator=g, dtype=torch.float64) for g in seeds]
    factors = torch.tensor(scales, dtype=torch.float64)
    return (torch.stack(rows)[:, None] * factors[None, :, None, None]).flatten(0, 1)


def at_relative_step(
    batch: Sequence[Moments], relative_step: float
) -> tuple[Moments, Float[Tensor, " runs"], staircase.Staircase]:
    """The problems as one, the step size eta of each with eta s_1 = `relative_step`, the theory."""
    each = stack_moments(batch)
    eta = relative_step / staircase.predict_staircase(each).escape_rates[:, 0]
    return each, eta, staircase.predict_staircase(each, eta)


def follow_grid(
    batch: Sequence[Moments],
    starts: Float[Tensor, "runs m1 coordinate"],
    scales: Sequence[float],
    relative_step: float,
    *,
    drop: int,
    **options,
) -> tuple[ModeRun, staircase.Staircase]:
    """Every problem from every scale until well after a drop, and the theory of each problem.

    starts        : run = problem * len(scales) + scale, as in `unit_starts`; several such blocks,
                    one after the other, start every problem in several ways.
    relative_step : eta s_1. drop : which one. options : of `follow_modes`.
    """
    count = len(scales)
    _, eta, theory = at_relative_step(batch, relative_step)
    last = float(theory.drop_steps(min(scales))[:, drop - 1].max())
    blocks = len(starts) // (len(batch) * count)
    track = follow_modes(
        stack_moments(list(batch) * blocks, count),
        starts,
        step_size=eta.repeat(blocks).repeat_interleave(count),
        steps=int(1.05 * last + 30 / relative_step),
        **options,
    )
    return track, theory
