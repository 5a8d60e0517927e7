"""Every competing method with the settings that are searched for its best, under one call."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from learning_dynamics.runtime import Diverged, check_choice, generator
from learning_dynamics.saddles.baselines.growing_networks import (
    alternating_flows,
    gradmax,
    greedy_low_rank,
    greedy_steps,
    neuron_pursuit,
    tiny,
)
from learning_dynamics.saddles.baselines.optimizers import (
    gradient_descent,
    heavy_ball,
    normalised_descent,
    spectral_descent,
)
from learning_dynamics.saddles.baselines.rank_one_pursuit import rank_one_pursuit
from learning_dynamics.saddles.skipping.algorithm import skip_plateaus
from learning_dynamics.saddles.skipping.objective import Path
from learning_dynamics.saddles.skipping.settings import Settings
from paper.saddles.efficient_algorithm.problems import Case

__all__ = ["METHODS", "NO_SEED", "Method", "arrival", "best_settings", "run_method", "try_settings"]


@dataclass(frozen=True)
class Method:
    """A method, the settings searched, and the kinds of problem it is defined on.

    settings : name -> values; "step" values are multiples of the case's `largest_step`, "size",
               "length" and "spectral" ones of 1/sqrt(largest_step), the scale of the weights.
    on       : of "linear", "relu", "diagonal".
    """

    title: str
    run: Callable[..., Path]
    settings: Mapping[str, tuple[float, ...]]
    on: tuple[str, ...]
    fixed: Mapping[str, Any]


STEPS = tuple(2.0 ** (-k / 2) for k in range(9))
DENSE = ("linear", "relu")
ALL = ("linear", "relu", "diagonal")


def _skip(
    problem, *, activation, loss, width, generator, stop_loss, max_steps, diagonal=False, **kw
):
    """`skip_plateaus` as the others are called; it stops by itself, not at `stop_loss`."""
    kw.setdefault("phase", "gradient_descent" if "step_size" in kw else "fast")
    return skip_plateaus(
        problem,
        activation=activation,
        loss=loss,
        width=width,
        generator=generator,
        architecture="diagonal" if diagonal else "dense",
        settings=Settings(max_steps=max_steps, **kw),
    ).path


def _descent(title: str, init_scale: float) -> Method:
    return Method(title, gradient_descent, {"step": STEPS}, ALL, {"init_scale": init_scale})


METHODS: dict[str, Method] = {
    "gd-1e-1": _descent("gradient descent, 1e-1", 1e-1),
    "gd-1e-2": _descent("gradient descent, 1e-2", 1e-2),
    "gd-1e-4": _descent("gradient descent, 1e-4", 1e-4),
    "gd-1e-8": _descent("gradient descent, 1e-8", 1e-8),
    "gd-1e-14": _descent("gradient descent, 1e-14", 1e-14),
    "heavy-ball": Method(
        "heavy ball", heavy_ball, {"step": STEPS, "momentum": (0.5, 0.8, 0.9)}, ALL, {}
    ),
    "normalised": Method(
        "normalised descent",
        normalised_descent,
        {"step": STEPS[1:6:2], "length": (0.03, 0.01, 0.003)},
        ALL,
        {},
    ),
    "muon": Method(
        "Muon-style",
        spectral_descent,
        {"spectral": (0.1, 0.03, 0.01), "max_steps": (50, 100, 200)},
        DENSE,
        {},
    ),
    "glrl": Method("GLRL", greedy_low_rank, {"step": STEPS}, ("linear",), {"scale": 1e-6}),
    "jacot": Method(
        "A(eps, T, eta)",
        greedy_steps,
        {"step": STEPS[::2], "steps": (50, 100, 200, 400)},
        ("linear",),
        {"scale": 1e-2},
    ),
    "agf": Method("AGF", alternating_flows, {"step": STEPS}, DENSE, {}),
    "neuron-pursuit": Method("Neuron Pursuit", neuron_pursuit, {"step": STEPS}, DENSE, {}),
    "gradmax": Method("GradMax", gradmax, {"step": STEPS, "size": (0.3, 1.0)}, DENSE, {}),
    "tiny": Method("TINY", tiny, {"step": STEPS}, DENSE, {}),
    "rank-one": Method("rank-one pursuit", rank_one_pursuit, {}, ("linear",), {}),
    "thesis": Method("thesis's algorithm", _skip, {"step": STEPS}, ALL, {}),
    "ours": Method("ours", _skip, {}, ALL, {}),
    "ours-best": Method("ours, best unit", _skip, {}, ("relu",), {"choice": "best"}),
}

NEEDS_TOLERANCE = {"glrl", "agf", "neuron-pursuit", "gradmax", "tiny"}
#: Methods that start without a draw.
NO_SEED = {"glrl", "jacot", "gradmax", "tiny", "rank-one"}


def arrival(path: Path, case: Case) -> float | None:
    """Gradient evaluations until the path is at the last saddle, None if it never is.

    There: loss within 1e-6 of the first loss from the last level *and* f within 1 % of
    the last saddle's. A path that falls past the level elsewhere has not arrived.
    """
    levels, last = case.levels, case.outputs[-1]
    close = (path.losses - levels[-1]).abs() <= 1e-6 * (1 + 1e-6) * levels[0]
    gap = (path.outputs - last).flatten(1).norm(dim=1) / last.norm()
    arrived = (close & (gap <= 1e-2)).nonzero()
    return float(path.evaluations[int(arrived[0, 0])]) if len(arrived) else None


def run_method(
    name: str, case: Case, settings: Mapping[str, float], *, seed: int = 0, max_steps: int = 10_000
) -> Path:
    """One run of method `name` on `case`. Raises ValueError if it diverges or is not defined."""
    check_choice("name", name, METHODS)
    method = METHODS[name]
    check_choice("kind of problem", case.kind, method.on)
    scale = case.largest_step
    options: dict[str, Any] = {"max_steps": max_steps, **method.fixed}
    for key, value in settings.items():
        if key == "step":
            options["step_size"] = value * scale
        elif key == "spectral":
            options["step_size"] = value * scale**-0.5
        elif key in ("size", "length"):
            options[key] = value * scale**-0.5
        else:
            options[key] = value
    if name in NEEDS_TOLERANCE:
        options["tolerance"] = 1e-5 * scale**-1.5
    if name not in NO_SEED:
        options["generator"] = generator("rivals/start", seed)
    if name not in ("rank-one",):
        options["activation"] = case.activation
    if "diagonal" in method.on:
        options["diagonal"] = case.diagonal
    levels = case.levels
    options["stop_loss"] = float(levels[-1] + 1e-6 * levels[0])
    return method.run(case.problem, width=case.width, loss=case.loss, **options)


def try_settings(
    name: str, case: Case, settings: Mapping[str, float], *, seed: int, max_steps: int
) -> tuple[tuple[float, float], Path] | None:
    """(evaluations until arrival, infinite if it never arrives; last loss) and the run, None if the
    settings are not stable (see `best_settings`)."""
    try:
        path = run_method(name, case, settings, seed=seed, max_steps=max_steps)
    except Diverged:
        return None
    first = float(path.losses[0])
    calm = name not in ("heavy-ball", "normalised", "muon")
    rise = path.losses.diff() if calm else path.losses - first
    if len(rise) and float(rise.max()) > 0.01 * first:
        return None
    cost = arrival(path, case)
    return (math.inf if cost is None else cost, float(path.losses[-1])), path


def best_settings(
    name: str,
    case: Case,
    *,
    seed: int = 0,
    max_steps: int = 10_000,
    start: Mapping[str, float] | None = None,
) -> tuple[dict[str, float], Path | None]:
    """The settings with which `name` reaches the goal in fewest gradient evaluations, and the run.

    start : None: the whole grid is searched. Else settings from which a walk goes to better
    neighbours on the grid, one setting changed by one place, until none is left; where `start` is
    not stable it first goes to smaller values.
    If none reaches the goal: those with the lowest last loss. Out are diverging settings and
    unstable ones, whose loss rises by more than 1 % of its start in one step (not asked of momentum
    and of steps of fixed length, which rise by nature; those may not exceed the start by 1 %).
    None for a method that is never stable.
    """
    grid = METHODS[name].settings
    tried: dict[tuple[int, ...], tuple[tuple[float, float], Path] | None] = {}
    limit = max_steps

    def chosen(place: tuple[int, ...]) -> dict[str, float]:
        return {key: values[i] for (key, values), i in zip(grid.items(), place, strict=True)}

    def attempt(place: tuple[int, ...]) -> tuple[float, float] | None:
        nonlocal limit
        if place not in tried:
            tried[place] = try_settings(name, case, chosen(place), seed=seed, max_steps=limit)
            new = tried[place]
            if new is not None and "max_steps" not in grid:
                limit = min(limit, int(min(new[0][0], max_steps)) + 2)
        found = tried[place]
        return None if found is None else found[0]

    def around(place: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        for axis, values in enumerate(grid.values()):
            for i in (place[axis] - 1, place[axis] + 1):
                if 0 <= i < len(values):
                    yield (*place[:axis], i, *place[axis + 1 :])

    if start is None:
        for place in itertools.product(*(range(len(values)) for values in grid.values())):
            attempt(place)
    else:
        nearest = ([abs(value - start[k]) for value in values] for k, values in grid.items())
        here: tuple[int, ...] | None = tuple(off.index(min(off)) for off in nearest)
        while here is not None:
            key, total = attempt(here), sum(chosen(here).values())
            if key is None:
                better = (p for p in around(here) if sum(chosen(p).values()) < total)
            else:
                better = (p for p in around(here) if (k := attempt(p)) is not None and k < key)
            here = next(better, None)
    stable = {place: found for place, found in tried.items() if found is not None}
    if not stable:
        return {}, None
    best = min(stable, key=lambda place: stable[place][0])
    return chosen(best), stable[best][1]
