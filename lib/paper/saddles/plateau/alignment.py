"""Theorem 1 as a law: how fast do units align as epsilon falls, at every escape?

Each run starts at epsilon times the same random direction. At the k-th escape (sigma_k(S)
reaches 0.1) we read sigma_{k+1}(S)/sigma_k(S); its power of epsilon is predicted by
`saddles.theory.staircase`, step size included. Two controls lack a hypothesis of the law.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.problems import Moments, linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.linear_nets.modes import follow_modes, stack_moments
from learning_dynamics.saddles.theory import staircase
from learning_dynamics.saddles.theory.alignment import modes_at_escape
from paper.claims import Evidence, claim
from paper.fits import fit_slope
from paper.saddles.random_linear import follow_grid, moments_with_gaps, unit_starts

__all__ = ["ESCAPES", "Config", "alignment", "controls", "ratio", "run", "step_table"]

ESCAPES = [1, 2, 3]


@dataclass(frozen=True)
class Config:
    """What is run.

    problems       : how many random problems (m0 = 6, m2 = 4, relative gaps of at least 0.1).
    scales         : initial scales epsilon, falling.
    relative_steps : eta s_1, the step size in units of 1/s_1, s_1 = sigma_1(Sigma_yx).
    table_*        : problems, epsilon and eta of `step_table`.
    """

    problems: int = 20
    scales: tuple[float, ...] = (1e-8, 1e-10, 1e-12, 1e-14)
    relative_steps: tuple[float, ...] = (0.05, 0.3)
    table_problems: int = 3
    table_scales: tuple[float, ...] = (1e-3, 1e-6, 1e-9, 1e-12)
    table_steps: tuple[float, ...] = (0.08, 0.04, 0.02, 0.01)

    def quick(self) -> "Config":
        return replace(self, problems=10, scales=(1e-8, 1e-11, 1e-14), table_problems=1)


def ratio(modes: Float[Tensor, "runs records mode"], escape: int) -> Float[Tensor, " runs"]:
    """sigma_{k+1}(S)/sigma_k(S) at escape k = `escape`, where sigma_k(S) passes 0.1."""
    values = modes_at_escape(modes, escape)
    return values[:, escape] / values[:, escape - 1]


def run(config: Config = Config()) -> xr.Dataset:
    """All problems at all scales and step sizes, with the powers of epsilon fitted.

    ratio (relative_step, problem, scale, escape) : sigma_{k+1}(S)/sigma_k(S) at escape k.
    measured, half_width, predicted (relative_step, problem, escape) : its power of epsilon;
    flow (problem, escape) : the power for gradient flow.
    """
    batch = moments_with_gaps(config.problems)
    starts = unit_starts(len(batch), config.scales, (10, 10))
    grid, parts = (len(batch), len(config.scales)), []
    for relative in config.relative_steps:
        every = math.ceil(0.4 / relative)  # the leading mode grows by about e^0.4 between records
        track, theory = follow_grid(batch, starts, config.scales, relative, drop=3, every=every)
        ratios = torch.stack([ratio(track.modes, k) for k in ESCAPES], -1)
        variables = {
            "ratio": (("problem", "scale", "escape"), ratios.reshape(*grid, -1)),
            "predicted": (("problem", "escape"), theory.exponents[:, :3]),
        }
        parts.append(xr.Dataset(variables))
    coords = {"problem": range(len(batch)), "scale": list(config.scales), "escape": ESCAPES}
    result = xr.concat(parts, "relative_step").assign_coords(coords)
    result["relative_step"] = list(config.relative_steps)
    flow = staircase.predict_staircase(stack_moments(batch)).exponents[:, :3]
    result["flow"] = ("problem", "escape"), flow
    power = fit_slope(np.log(result.scale), np.log(result.ratio))
    return result.assign(measured=power.slope, half_width=power.half_width)


def first_ratios(
    batch: Sequence[Moments], scales: Sequence[float], step_sizes: Sequence[float]
) -> xr.DataArray:
    """sigma_2(S)/sigma_1(S) at the first escape (problem, step_size, scale), one random start."""
    coords = {"problem": range(len(batch)), "step_size": list(step_sizes), "scale": list(scales)}
    a, b, c = (len(values) for values in coords.values())
    theory = staircase.predict_staircase(stack_moments(batch), min(step_sizes))
    last = theory.drop_steps(min(scales))[:, 0].max()
    track = follow_modes(
        stack_moments(batch, b * c),
        unit_starts(1, scales, (10, 10)).repeat(a * b, 1, 1),
        step_size=torch.tensor(step_sizes).double().repeat_interleave(c).repeat(a),
        steps=int(1.2 * float(last)) + 5,
    )
    return xr.DataArray(ratio(track.modes, 1).reshape(a, b, c), coords)


def step_table(config: Config = Config()) -> xr.Dataset:
    """delta(epsilon, eta) of Theorem 1 as both arguments fall.

    ratio (problem, step_size, scale) : sigma_2(S)/sigma_1(S) at the first escape.
    measured, predicted (problem, step_size) : its power of epsilon.
    """
    batch, steps = moments_with_gaps(config.table_problems), config.table_steps
    ratios = first_ratios(batch, config.table_scales, steps)
    small = ratios[..., 1:]
    power = fit_slope(np.log(small.scale), np.log(small)).slope
    each = stack_moments(batch)
    theory = [staircase.predict_staircase(each, eta).exponents[:, 0] for eta in steps]
    predicted = ("problem", "step_size"), torch.stack(theory, dim=-1)
    return xr.Dataset({"ratio": ratios, "measured": power, "predicted": predicted})


def controls(config: Config = Config()) -> xr.Dataset:
    """What happens without a gap (s_1 = s_2), and from a start orthogonal to the first mode.

    tied_power : power of epsilon of sigma_2(S)/sigma_1(S) at the first escape.
    loss, left_over : the loss after 2 000 steps, and 1/2 s_1^2, what mode 1 would have removed.
    White inputs and a diagonal Sigma_yx make the complement of mode 1 exactly invariant, in
    floating point too.
    """
    tied = linear_teacher(
        generator=generator("plateau-controls", "tied"),
        covariance="isotropic",
        input_spectrum=(1.0,) * 6,
        target_spectrum=(2.0, 2.0, 1.0, 0.5),
    ).moments()
    ratios = first_ratios([tied], (1e-4, 1e-8, 1e-12), (0.05,))[0, 0]
    s = torch.tensor([3.0, 1.8, 1.0, 0.5], dtype=torch.float64)
    yx = torch.eye(4, 6, dtype=torch.float64) * s[:, None]
    moments = stack_moments([Moments(torch.eye(6, dtype=torch.float64), yx, torch.diag(s**2))])
    start = unit_starts(1, (1e-6,), (10, 10))
    start[..., [0, 6]] = 0.0  # the input and output coordinate of mode 1
    track = follow_modes(moments, start, step_size=0.1, steps=2000, every=2000, rotate_every=None)
    power = fit_slope(np.log(ratios.scale), np.log(ratios)).slope
    loss, left_over = float(track.losses[0, -1]), float(0.5 * s[0] ** 2)
    return xr.Dataset({"tied_power": power, "loss": loss, "left_over": left_over})


@claim("saddles/plateau-alignment", Config, run, step_table, controls)
def alignment(result: xr.Dataset, table: xr.Dataset, controls: xr.Dataset) -> Evidence:
    """All fitted exponents against the finite-step prediction."""
    large = result.sel(relative_step=max(result.relative_step), escape=1)
    both = np.diagonal(table.ratio, axis1=1, axis2=2)  # epsilon and eta fall together
    least = table.ratio[..., -1]
    details = {
        "problems": result.sizes["problem"],
        "half_width_95": result.half_width.max(["relative_step", "problem"]),
        "flow_error_escape_1": abs(large.measured - large.flow).min(),
        "tied_slope": controls.tied_power,
        "loss_in_invariant_subspace": controls.loss / controls.left_over,
        "delta_fall": both[:, 1:] / both[:, :-1],
        "delta_step_alone": least[:, -1] / least[:, -2],
        "delta_power_error": abs(table.measured - table.predicted),
    }
    return Evidence(result.measured, result.predicted, 0.015, result.problem, details)
