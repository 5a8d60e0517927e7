"""Theorem 1 as a law: how fast do units align as epsilon falls, at every escape?

Each run starts at epsilon times the same random direction. At the k-th escape (sigma_k(S)
reaches a threshold) we read sigma_{k+1}(S)/sigma_k(S); its power of epsilon is predicted by
`saddles.staircase`, step size included.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from paper.claims import Evidence
from paper.fits import fit_slope
from paper.saddles.plateau.controls import alignment_grid, invariant_loss, tied_slope
from paper.saddles.random_linear import problems_with_gaps, unit_starts
from learning_dynamics.saddles.theory import staircase
from learning_dynamics.saddles.linear_nets.modes import follow_modes, stack_moments
from learning_dynamics.saddles.theory.alignment import modes_at_escape

__all__ = ["Alignment", "Config", "evidence", "length_evidence", "run", "vanishing_delta"]

ESCAPES = 3


@dataclass(frozen=True)
class Config:
    """What is run.

    problems       : how many random problems (m0 = 6, m2 = 4, generic inputs).
    scales         : initial scales epsilon, falling.
    relative_steps : eta s_1, the step size in units of 1/s_1, s_1 = sigma_1(Sigma_yx).
    least_gap      : relative spectral gap of every problem.
    threshold      : sigma_k(S) at which escape k is read.
    every          : steps between records, one per relative step.
    """

    problems: int = 10
    scales: tuple[float, ...] = (1e-8, 1e-10, 1e-12, 1e-14)
    relative_steps: tuple[float, ...] = (0.05, 0.3)
    least_gap: float = 0.1
    threshold: float = 0.1
    every: tuple[int, ...] = (8, 2)
    width: int = 10
    covariance: str = "generic"


@dataclass(frozen=True)
class Alignment:
    """Ratios and fitted exponents; leading dimensions (relative step, problem)."""

    scales: Float[Tensor, " scale"]
    relative_steps: Float[Tensor, " step"]
    ratios: Float[Tensor, "step problem scale escape"]
    measured: Float[Tensor, "step problem escape"]
    interval: Float[Tensor, "step problem escape"]
    predicted: Float[Tensor, "step problem escape"]
    flow: Float[Tensor, "problem escape"]
    lengths: Float[Tensor, "step problem scale"]
    length_slope: Float[Tensor, "step problem"]
    length_interval: Float[Tensor, "step problem"]
    length_predicted: Float[Tensor, "step problem"]


def run(config: Config | None = None) -> Alignment:
    """Run all problems at all scales and step sizes, and fit."""
    config = config or Config()
    if len(config.every) != len(config.relative_steps):
        raise ValueError(f"every = {config.every}: one per relative step")
    problems = problems_with_gaps(
        config.problems, least_gap=config.least_gap, covariance=config.covariance
    )
    batch = [p.moments() for p in problems]
    each = stack_moments(batch)
    runs = stack_moments(batch, len(config.scales))
    starts = unit_starts(len(batch), config.scales, (config.width, 10))
    flow = staircase.predict(each)
    logs = torch.tensor(config.scales, dtype=torch.float64).log()
    grid = (len(batch), len(config.scales))
    found: dict[str, list[Tensor]] = {}
    for relative, every in zip(config.relative_steps, config.every, strict=True):
        eta = relative / flow.escape_rates[:, 0]
        theory = staircase.predict(each, eta)
        last = float(theory.drop_steps(min(config.scales))[:, ESCAPES - 1].max())
        track = follow_modes(
            runs,
            starts,
            step_size=eta.repeat_interleave(len(config.scales)),
            steps=int(1.05 * last + 30 / relative),
            every=every,
        )
        ratios = []
        for k in range(1, ESCAPES + 1):
            modes = modes_at_escape(track.modes, k, config.threshold)
            ratios.append((modes[:, k] / modes[:, k - 1]).reshape(grid))
        stacked = torch.stack(ratios, dim=-1)
        slope, interval, _ = fit_slope(logs, stacked.log().mT)
        lengths = escape_steps(track.modes[..., 0], track.steps, config.threshold).reshape(grid)
        length_slope, length_interval, _ = fit_slope(-logs, lengths)
        for name, value in {
            "ratios": stacked,
            "measured": slope,
            "interval": interval,
            "predicted": theory.exponents[:, :ESCAPES],
            "lengths": lengths,
            "length_slope": length_slope,
            "length_interval": length_interval,
            "length_predicted": 1 / torch.log1p(eta * flow.escape_rates[:, 0]),
        }.items():
            found.setdefault(name, []).append(value)
    return Alignment(
        scales=logs.exp(),
        relative_steps=torch.tensor(config.relative_steps, dtype=torch.float64),
        flow=flow.exponents[:, :ESCAPES],
        **{name: torch.stack(values) for name, values in found.items()},
    )


def escape_steps(
    mode: Float[Tensor, "runs records"], steps: Tensor, threshold: float
) -> Float[Tensor, " runs"]:
    """The step at which `mode` first reaches `threshold`, log-linear between records."""
    at = (mode >= threshold).long().argmax(-1).clamp_min(1)
    rows = torch.arange(len(mode))
    low, high = mode[rows, at - 1].log(), mode[rows, at].log()
    part = (torch.tensor(threshold, dtype=mode.dtype).log() - low) / (high - low)
    return steps[at - 1] + part * (steps[at] - steps[at - 1])


_QUICK = Config(scales=(1e-8, 1e-11, 1e-14))
_FULL = Config(problems=20, scales=tuple(10.0**-i for i in range(8, 15)))


def vanishing_delta(problems: int) -> dict[str, list[float]]:
    """delta(epsilon, eta) = sigma_2(S)/sigma_1(S) at the first escape, as its arguments fall.

    delta_fall: factors by which it falls when epsilon falls by 1000 and eta by 2, both at once;
    delta_step_alone: the factor when eta falls from 0.02 to 0.01 at the least epsilon;
    delta_power_error: miss of the predicted power of epsilon at each eta. Per problem.
    """
    scales, steps = (1e-3, 1e-6, 1e-9, 1e-12), (0.08, 0.04, 0.02, 0.01)
    logs = torch.tensor(scales, dtype=torch.float64).log()
    fall, alone, miss = [], [], []
    for problem in problems_with_gaps(problems):
        moments = problem.moments()
        delta = alignment_grid(moments, scales, steps)
        both = delta.diagonal()
        fall += (both[1:] / both[:-1]).tolist()
        alone.append(float(delta[-1, -1] / delta[-2, -1]))
        power = fit_slope(logs[1:], delta[:, 1:].log())[0]
        theory = [float(staircase.predict(moments, eta).exponents[0]) for eta in steps]
        miss += (power - torch.tensor(theory, dtype=torch.float64)).abs().tolist()
    return {"delta_fall": fall, "delta_step_alone": alone, "delta_power_error": miss}


def evidence(quick: bool = False) -> Evidence:
    """For `saddles/plateau-alignment`: all fitted exponents against the finite-step prediction."""
    config = _QUICK if quick else _FULL
    result = run(config)
    large = int(result.relative_steps.argmax())
    flow_error = (result.measured[large, :, 0] - result.flow[:, 0]).abs()
    finite_error = (result.measured[large, :, 0] - result.predicted[large, :, 0]).abs()
    error = (result.measured - result.predicted).abs()
    stuck, floor = invariant_loss()
    return Evidence(
        measured=[round(float(x), 6) for x in result.measured.flatten()],
        predicted=[round(float(x), 6) for x in result.predicted.flatten()],
        tolerance=0.015,
        seeds=list(range(config.problems)),
        details={
            "problems": config.problems,
            "worst_error_by_escape": error.amax((0, 1)).tolist(),
            "half_width_95": result.interval.amax((0, 1)).tolist(),
            "flow_error_escape_1": float(flow_error.min()),
            "finite_error_escape_1": float(finite_error.max()),
            "tied_slope": tied_slope(),
            "loss_in_invariant_subspace": stuck / floor,
            **vanishing_delta(1 if quick else 3),
        },
    )


def length_evidence(quick: bool = False) -> Evidence:
    """For `saddles/plateau-length`: steps per unit of log(1/epsilon), measured / predicted."""
    config = _QUICK if quick else _FULL
    result = run(config)
    ratio = (result.length_slope / result.length_predicted).flatten()
    return Evidence(
        measured=[round(float(x), 9) for x in ratio],
        predicted=1.0,
        tolerance=0.02,
        seeds=list(range(config.problems)),
        details={"half_width_95": float((result.length_interval / result.length_predicted).max())},
    )
