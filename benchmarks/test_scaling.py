"""Cost per run and step against batch, width and samples, with fitted slopes."""

from statistics import median

import pytest
import torch

from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.two_layer import gradient_descent, initialise
from timing import interleaved, slope

BASE = {"batch": 32, "width": 50, "samples": 200}
GRID = {
    "batch": [1, 2, 4, 8, 16, 32, 64, 128],
    "width": [8, 16, 32, 64, 128, 256],
    "samples": [10, 25, 50, 100, 200, 400, 800],
}
STEPS, ROUNDS = 30, 5


def call(act, batch, width, samples):
    g = generator("scaling")
    x = torch.randn(10, samples, generator=g, dtype=torch.float64)
    y = torch.randn(5, samples, generator=g, dtype=torch.float64)
    weights = initialise((10, width, 5), 0.01, [generator("s", i) for i in range(batch)])
    return lambda: gradient_descent(
        weights,
        Problem(x, y),
        step_size=0.01,
        steps=STEPS,
        activation=act,
        record_at=torch.tensor([STEPS]),
        backend="native",
    )


@pytest.mark.parametrize("act", ["relu", "linear"])
@pytest.mark.parametrize("axis", GRID)
def test_scaling(axis, act, benchmark, record):
    sizes = {f"{v}": {**BASE, axis: v} for v in GRID[axis]}
    calls = {k: call(act, **s) for k, s in sizes.items()}
    seconds = interleaved(calls, ROUNDS)
    cost = [1e6 * median(seconds[k]) / STEPS / sizes[k]["batch"] for k in sizes]
    record(
        f"scaling {act} {axis}",
        {"at": GRID[axis], "microseconds": cost, "slope": slope(GRID[axis], cost)},
    )
    benchmark.pedantic(calls[f"{BASE[axis] if axis != 'width' else 64}"], rounds=3)
