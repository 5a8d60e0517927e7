"""Small ReLU problems run again, published numbers beside ours.

Losses in this file are mean squared errors *without* the factor 1/2, as printed by the authors:
twice our loss, so that their step size is half of ours.
"""

from collections.abc import Sequence

import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from learning_dynamics.data.published import five_point, orthogonal_pair, three_point
from learning_dynamics.runtime import Trajectory, generator
from learning_dynamics.saddles.theory.extremal_directions import (
    distinct_directions,
    extremal_directions,
)
from learning_dynamics.saddles.theory.stages import crossing_steps
from learning_dynamics.saddles.two_layer import (
    Weights,
    geometric_grid,
    gradient_descent,
    initialise,
    uniform_grid,
)
from paper.claims import Evidence

__all__ = [
    "FIVE_POINT_LEVELS",
    "PAIR_SCALES",
    "PAIR_STEP",
    "THREE_POINT_ERROR",
    "balanced",
    "distance_from_first",
    "five_point_directions",
    "five_point_run",
    "five_point_stages",
    "measure_five_point",
    "measure_orthogonal_pair",
    "measure_three_point",
    "orthogonal_pair_ratios",
    "orthogonal_pair_run",
    "three_point_run",
    "units_before_escape",
]

#: Mean squared errors at the origin, the first saddle and the end (wu2025; exact values).
FIVE_POINT_LEVELS = (0.03812, 0.030185279, 0.0278859611)

#: Mean squared error of the least-squares line of the three points (boursier2025).
THREE_POINT_ERROR = 0.175043

#: Initial scales and step size of the runs on the orthogonal pair.
PAIR_SCALES, PAIR_STEP = (1e-3, 1e-6, 1e-12), 0.01


def balanced(units: int, scales: Sequence[float], seeds: int, name: str) -> Weights:
    """Starts with |a_i| = |b_i|, two inputs and one output: entries of a of size epsilon.

    run = seed * len(scales) + scale: equal seeds give equal directions.
    """
    w = initialise((2, units, 1), 1.0, [generator(name, s) for s in range(seeds) for _ in scales])
    scales = [*scales] * seeds
    a = w.w1 * torch.tensor(scales, dtype=torch.float64)[:, None, None]
    return Weights(a, a.norm(dim=-1)[:, None, :] * w.w2.sign())


def five_point_run(
    *,
    init_scale: float = 1e-8,
    step_size: float = 0.6,
    seeds: int = 5,
    span: float = 1800.0,
    observables: Sequence[str] = ("loss",),
) -> Trajectory:
    """Fifty ReLU units on the five points, `span` / `step_size` steps (loss with 1/2)."""
    steps = round(span / step_size)
    return gradient_descent(
        initialise((2, 50, 1), init_scale, [generator("five-point", s) for s in range(seeds)]),
        five_point(),
        step_size=step_size,
        steps=steps,
        activation="relu",
        record_at=uniform_grid(steps, max(1, steps // 5000)),
        observables=observables,
    )


def five_point_stages(
    trajectory: Trajectory,
) -> tuple[Float[Tensor, "runs drops"], Float[Tensor, " runs"], Float[Tensor, " runs"]]:
    """Steps of the two half-drops, the median error between them, the error at the end."""
    error = 2 * trajectory["loss"]
    levels = torch.tensor(FIVE_POINT_LEVELS, dtype=error.dtype)
    half = ((levels[1:] + levels[:-1]) / 2).expand(len(error), 2)
    drops = crossing_steps(error, half, trajectory.steps)
    between = (trajectory.steps > drops[:, :1]) & (trajectory.steps < drops[:, 1:])
    rest = torch.stack([e[b].median() for e, b in zip(error, between, strict=True)])
    return drops, rest, error[:, -1]


def five_point_directions(run: Trajectory) -> Int[Tensor, "runs stages"]:
    """Number of distinct directions of active units: while dormant, half way between the drops, at
    the end. `run` holds units; active: |b| |a| exceeds 1e-3 of the target's size, 0.1."""
    drops, _, _ = five_point_stages(run)
    found = []
    for units, (first, second) in zip(run["units"], drops, strict=True):
        at = torch.stack([0.5 * first, 0.5 * (first + second), run.steps[-1]]).long()
        stages = units[torch.searchsorted(run.steps, at)]
        size = stages[..., :2].norm(dim=-1) * stages[..., 2].abs()
        active = [u[n > 1e-4] for u, n in zip(stages, size, strict=True)]
        found.append([len(distinct_directions(u)[0]) if len(u) else 0 for u in active])
    return torch.tensor(found)


def measure_five_point(*, quick: bool = False) -> Evidence:
    """`saddles/relu-five-point`: errors at the first saddle and at the end.

    The first saddle lies on a kink, over which finite steps hover: the error there is
    level + c eta. measured: that error extrapolated to eta = 0 from two step sizes (median over
    time and seeds), and the final error. hovering: the errors before extrapolation.
    """
    coarse, fine = (0.2, 0.1) if quick else (0.1, 0.04)
    seeds = 3 if quick else 5
    rests = []
    for eta in (coarse, fine):
        run = five_point_run(init_scale=1e-12, step_size=eta, seeds=seeds, span=1000.0)
        rests.append(float(five_point_stages(run)[1].median()))
    level = rests[1] - fine * (rests[0] - rests[1]) / (coarse - fine)
    _, _, end = five_point_stages(five_point_run(seeds=seeds))
    return Evidence(
        measured=[level, float(end.median())],
        predicted=list(FIVE_POINT_LEVELS[1:]),
        tolerance=[5e-7, 1e-9],
        seeds=list(range(seeds)),
        details={"hovering": rests, "step_sizes": [coarse, fine]},
    )


def units_before_escape() -> xr.Dataset:
    """The units (step, unit, coordinate) of one run on the five points from epsilon = 1e-12 to its
    first half-drop; direction (k, coordinate), rate (k): the extremal directions at the origin."""
    run = five_point_run(init_scale=1e-12, seeds=1, observables=("loss", "units"))
    last = int(torch.searchsorted(run.steps, five_point_stages(run)[0][0, 0])) + 1
    p, source = five_point(), generator("five-point", "directions")
    found = extremal_directions(p.inputs, p.targets / 5, starts=100, generator=source)
    return xr.Dataset(
        {
            "units": (("step", "unit", "coordinate"), run["units"][0, :last]),
            "direction": (("k", "coordinate"), found.directions),
            "rate": ("k", found.rates),
        },
        {"step": run.steps[:last]},
    )


def distance_from_first(found: xr.Dataset) -> xr.Dataset:
    """ratio (step, unit) : |(I - P1) w|/|P1 w|, P1 on the fastest extremal direction, of all units
    that grow; k (unit) : the direction where it ends; constant (k) : the ratio of the direction.

    Units are taken as balanced, w = (a, b) with |a| = |b|, which growth makes them.
    """
    units, directions = (torch.from_numpy(found[n].values) for n in ("units", "direction"))
    norms = units.norm(dim=-1)
    units = units[:, norms[-1] > 20 * norms[0]]
    a, b = units[..., :2], units[..., 2:]
    w = torch.cat([a / a.norm(dim=-1, keepdim=True), b.sign()], -1) / 2**0.5

    def ratio(unit: Tensor) -> Tensor:
        cosine = (unit @ directions[0]).abs().clamp(max=1)
        return (1 - cosine.square()).sqrt() / cosine

    return xr.Dataset(
        {"ratio": (("step", "unit"), ratio(w)), "constant": ("direction", ratio(directions))},
        {"k": ("unit", (w[-1] @ directions.mT).argmax(-1)), "step": found.step},
    )


def orthogonal_pair_run(*, seeds: int = 1, observables: Sequence[str] = ("loss",)) -> Trajectory:
    """Twenty ReLU units on the orthogonal pair through both drops; run = seed * 3 + scale."""
    longest = -torch.tensor(min(PAIR_SCALES), dtype=torch.float64).log()
    steps = round(1.8 * float(longest) / PAIR_STEP) + 500
    return gradient_descent(
        balanced(20, PAIR_SCALES, seeds, "orthogonal-pair"),
        orthogonal_pair(),
        step_size=PAIR_STEP,
        steps=steps,
        activation="relu",
        record_at=uniform_grid(steps, 1),
        observables=observables,
    )


def orthogonal_pair_ratios(
    seeds: int,
) -> tuple[Float[Tensor, "seeds scales"], Float[Tensor, " seeds"], float]:
    """Time of the second drop over that of the first; its limit per seed; the predicted limit.

    Drop k comes at (log(1/epsilon) + c_k) / rate_k, so that the limit of the ratio is the ratio
    of the slopes of the two times in log(1/epsilon). Prediction: log(1 + eta D+) over
    log(1 + eta D-), which is 2 for eta = 0.
    """
    log_scales = torch.tensor(PAIR_SCALES, dtype=torch.float64).reciprocal().log()
    run = orthogonal_pair_run(seeds=seeds)
    half = run["loss"].new_tensor([0.375, 0.125]).expand(len(run["loss"]), 2)
    drops = crossing_steps(run["loss"], half, run.steps).reshape(seeds, len(PAIR_SCALES), 2)
    slopes = (drops * (log_scales - log_scales.mean())[:, None]).sum(1)
    rates = 1 + PAIR_STEP * torch.tensor([1.25**0.5, 0.3125**0.5], dtype=torch.float64)
    predicted = float(rates[0].log() / rates[1].log())
    return drops[..., 1] / drops[..., 0], slopes[:, 1] / slopes[:, 0], predicted


def measure_orthogonal_pair(*, quick: bool = False) -> Evidence:
    """`saddles/relu-orthogonal-pair`: the limit of the ratio of drop times, per seed."""
    seeds = 3 if quick else 8
    ratios, limits, predicted = orthogonal_pair_ratios(seeds)
    return Evidence(
        measured=limits.tolist(),
        predicted=2.0,
        tolerance=0.06,
        seeds=list(range(seeds)),
        details={"finite_step": predicted, "mean_ratios": ratios.mean(0).tolist()},
    )


def three_point_run(seeds: int) -> Trajectory:
    """Sixty ReLU units on the three points, epsilon = 1e-3, 1e-6, 0.13; run = seed * 3 + scale."""
    return gradient_descent(
        balanced(60, (1e-3, 1e-6, 0.13), seeds, "three-point"),
        three_point(),
        step_size=0.2,
        steps=10_000,
        activation="relu",
        record_at=geometric_grid(10_000, 300),
    )


def measure_three_point(*, quick: bool = False) -> Evidence:
    """`saddles/relu-three-point-failure`: final errors from small scales; `control` from large."""
    seeds = 2 if quick else 5
    error = 2 * three_point_run(seeds)["loss"][:, -1].reshape(seeds, 3)
    return Evidence(
        measured=error[:, :2].flatten().tolist(),
        predicted=THREE_POINT_ERROR,
        tolerance=5e-7,
        seeds=list(range(seeds)),
        details={"control": error[:, 2].clamp_min(1e-16).tolist()},
    )
