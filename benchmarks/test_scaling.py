"""Cost per run and step of the C++ kernels against batch, width and samples, with fitted slopes."""

import pytest
import torch

from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.two_layer import initialise
from test_baselines import descent
from timing import fastest, slope

BASE = {"batch": 32, "width": 50, "samples": 200}
GRID = {
    "batch": [1, 2, 4, 8, 16, 32, 64, 128],
    "width": [8, 16, 32, 64, 128, 256],
    "samples": [10, 25, 50, 100, 200, 400, 800],
}
STEPS, ROUNDS = 200, 4


def call(act, batch, width, samples):
    g = generator("scaling")
    x = torch.randn(10, samples, generator=g, dtype=torch.float64)
    y = torch.randn(5, samples, generator=g, dtype=torch.float64)
    weights = initialise((10, width, 5), 0.01, [generator("s", i) for i in range(batch)])
    return descent(weights, Problem(x, y), act, STEPS, "native")


@pytest.mark.parametrize("act", ["relu", "linear"])
@pytest.mark.parametrize("axis", GRID)
def test_scaling(axis, act, record):
    sizes = {v: {**BASE, axis: v} for v in GRID[axis]}
    best = fastest({v: call(act, **s) for v, s in sizes.items()}, ROUNDS)
    cost = [1e6 * best[v] / STEPS / sizes[v]["batch"] for v in sizes]
    record(
        f"scaling {act} {axis}",
        {"at": GRID[axis], "microseconds": cost, "slope": slope(GRID[axis], cost)},
    )
