"""Our kernel against what a user would write: medians of same-round ratios."""

from statistics import median

import pytest
import torch

from baselines import BASELINES
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.two_layer import gradient_descent, initialise
from timing import interleaved, ratio

#: name -> activation, widths, samples, runs, dtype
CASES = {
    "linear 20-50-10": ("linear", (20, 50, 10), 40, 256, torch.float64),
    "ReLU 10-50-5": ("relu", (10, 50, 5), 200, 64, torch.float64),
    "ReLU 10-50-5, float32": ("relu", (10, 50, 5), 200, 64, torch.float32),
    "linear 20-50-10, float32": ("linear", (20, 50, 10), 40, 256, torch.float32),
}
ETA, STEPS, ROUNDS = 0.01, 100, 7


def build(name, runs=None):
    act, (m0, m1, m2), n, batch, dtype = CASES[name]
    g = generator("benchmark", name)
    x, y = torch.randn(m0, n, generator=g).to(dtype), torch.randn(m2, n, generator=g).to(dtype)
    weights = initialise(
        (m0, m1, m2), 0.1, [generator("start", i) for i in range(runs or batch)], dtype=dtype
    )
    return act, weights, Problem(x, y)


def ours(weights, problem, act, steps, backend="native"):
    """A long run's backend on few steps."""
    end = torch.tensor([steps])
    return lambda: gradient_descent(
        weights, problem, step_size=ETA, steps=steps, activation=act, record_at=end, backend=backend
    )


@pytest.mark.parametrize("name", CASES)
def test_against_baselines(name, benchmark, record):
    act, weights, problem = build(name)
    runs, m1, m0 = weights.w1.shape
    sizes = (m0, m1, weights.w2.shape[-2], problem.inputs.shape[-1])
    # slower contenders take fewer steps; all numbers are per run and step
    steps = {"ours": STEPS, "torch.nn loop": STEPS, "JAX scan": 40}
    calls = {"ours": ours(weights, problem, act, STEPS)}
    for baseline, make in BASELINES.items():
        steps.setdefault(baseline, 10)
        calls[baseline] = make(weights, problem, act, ETA, steps[baseline])
        w1, w2 = calls[baseline]()
        check = gradient_descent(
            weights, problem, step_size=ETA, steps=steps[baseline], activation=act
        ).final
        tolerance = 1e-10 if w1.dtype == torch.float64 else 1e-4
        torch.testing.assert_close(w1, check.w1[: len(w1)], rtol=0, atol=tolerance)
        torch.testing.assert_close(w2, check.w2[: len(w2)], rtol=0, atol=tolerance)
    seconds = interleaved(calls, ROUNDS)
    per = {
        baseline: [
            s / steps[baseline] / (1 if baseline == "torch.nn loop" else runs) for s in times
        ]
        for baseline, times in seconds.items()
    }
    record(
        name,
        {
            "runs": runs,
            "sizes": sizes,
            "dtype": str(weights.w1.dtype).split(".")[-1],
            "microseconds": {k: 1e6 * median(v) for k, v in per.items()},
            "ratios": {k: ratio(v, per["ours"]) for k, v in per.items() if k != "ours"},
        },
    )
    benchmark.pedantic(calls["ours"], rounds=3, warmup_rounds=1)
