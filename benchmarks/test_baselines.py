"""The kernels against what a user would write: fastest repeats of the same rounds."""

import os
import time

import pytest
import torch

from baselines import BASELINES
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.two_layer import gradient_descent, initialise
from timing import fastest, seconds

#: name -> activation, widths, samples, runs, dtype
CASES = {
    f"{name}, {str(dtype).removeprefix('torch.')}": (*case, dtype)
    for dtype in (torch.float64, torch.float32)
    for name, case in {
        "linear 20-50-10": ("linear", (20, 50, 10), 40, 256),
        "ReLU 10-50-5": ("relu", (10, 50, 5), 200, 64),
    }.items()
}
#: Steps of a call, else 10, so that all are short; all numbers are per run and step.
STEPS = {"C++": 100, "torch.nn loop": 100}
ETA, ROUNDS = 0.01, 40


def build(name, runs=None):
    """Activation, weights and problem of a case."""
    act, (m0, m1, m2), n, batch, dtype = CASES[name]
    g = generator("benchmark", name.split(",")[0])
    x, y = torch.randn(m0, n, generator=g).to(dtype), torch.randn(m2, n, generator=g).to(dtype)
    starts = [generator("start", i) for i in range(runs or batch)]
    return act, initialise((m0, m1, m2), 0.1, starts, dtype=dtype), Problem(x, y)


def descent(weights, problem, act, steps, backend):
    """A call of `gradient_descent` that records its end alone."""
    options = {"step_size": ETA, "steps": steps, "record_at": torch.tensor([steps])}
    return lambda: gradient_descent(weights, problem, activation=act, backend=backend, **options)


@pytest.mark.parametrize("name", CASES)
def test_against_baselines(name, record):
    act, weights, problem = build(name)
    runs, m1, m0 = weights.w1.shape
    steps = dict.fromkeys(["torch", *BASELINES], 10) | STEPS
    calls = {
        "C++": descent(weights, problem, act, steps["C++"], "native"),
        "torch": descent(weights, problem, act, steps["torch"], "torch"),
    }
    for baseline, make in BASELINES.items():
        calls[baseline] = make(weights, problem, act, ETA, steps[baseline])
        w1, w2 = calls[baseline]()
        check = descent(weights, problem, act, steps[baseline], "native")().final
        tolerance = 1e-10 if w1.dtype == torch.float64 else 1e-4
        torch.testing.assert_close(w1, check.w1[: len(w1)], rtol=0, atol=tolerance)
        torch.testing.assert_close(w2, check.w2[: len(w2)], rtol=0, atol=tolerance)
    of = {k: 1 if k == "torch.nn loop" else runs for k in calls}  # that one takes a single run
    best = {k: s / steps[k] / of[k] for k, s in fastest(calls, ROUNDS).items()}
    record(
        name,
        {
            "runs": runs,
            "sizes": (m0, m1, *problem.targets.shape),
            "microseconds": {k: 1e6 * s for k, s in best.items()},
            "ratios": {k: s / best["C++"] for k, s in best.items() if k != "C++"},
        },
    )


@pytest.mark.parametrize("name", CASES)
def test_against_jax_with_all_cores(name, record):
    """Time on the wall; both may use every core. XLA steps such small nets on one, our runs are
    spread over all: an ensemble is what the kernel is for."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    act, weights, problem = build(name)
    steps, runs = {"C++": 100, "JAX scan": 20}, len(weights.w1)
    calls = {
        "C++": descent(weights, problem, act, steps["C++"], "native"),
        "JAX scan": BASELINES["JAX scan"](weights, problem, act, ETA, steps["JAX scan"]),
    }
    spent = seconds(calls, ROUNDS, time.perf_counter)
    best = {k: 1e6 * min(v) / steps[k] / runs for k, v in spent.items()}
    found = {"cores": torch.get_num_threads(), "microseconds": best}
    record(f"{name}, all cores", found | {"ratio": best["JAX scan"] / best["C++"]})
