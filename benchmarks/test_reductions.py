"""Cost with the exact reductions: against width, samples and length of the plateau."""

from functools import partial

import numpy as np
import torch

from learning_dynamics.problems import linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.linear_nets.linear import compress, linear_descent, narrow
from learning_dynamics.saddles.two_layer import gradient_descent, initialise
from paper.performance.kernels import large_run
from timing import fastest

STEPS, ROUNDS = 400, 25


def test_width_reduction(record):
    problem = linear_teacher(
        generator=generator("benchmark-width"),
        input_spectrum=(1.0,) * 20,
        target_spectrum=(2.0, 1.0),
        output_dim=10,
    )
    calls, options = {}, {"step_size": 0.1, "steps": STEPS, "record_at": torch.tensor([STEPS])}
    for width in (50, 500, 5000, 50000):
        wide = initialise((20, width, 10), 1e-3 / width**0.5, [generator("width", 0)])
        thin = narrow(wide).weights
        calls[f"{width}"] = partial(gradient_descent, thin, problem, **options)
        calls[f"reduce {width}"] = partial(narrow, wide)
        if width <= 5000:
            calls[f"stepping {width}"] = partial(gradient_descent, wide, problem, **options)
    best = fastest(calls, ROUNDS)
    record(
        "width reduction", {"steps": STEPS, "seconds": best, "ratio": best["50000"] / best["50"]}
    )


def test_fast_forward(record):
    """A first plateau of 10^3 ... 10^6 steps (by the step size), followed for 80 % of it."""
    problem = compress(linear_teacher(generator=generator("benchmark-plateau")))
    moments = problem.moments()
    rate = float(torch.linalg.matrix_norm(moments.yx, 2))
    scale, calls = 1e-40, {}
    weights = initialise((6, 10, 4), scale, [generator("plateau", 0)])
    for length in (10**3, 10**4, 10**5, 10**6):
        eta = float(np.expm1(-np.log(scale) / length)) / rate
        end = int(0.8 * length)
        options = {"step_size": eta, "steps": end, "record_at": torch.tensor([end])}
        calls[f"{length}"] = partial(linear_descent, weights, problem, **options)
        if length == 10**3:
            calls["stepping 1000"] = partial(calls["1000"], tolerance=None)
    best = fastest(calls, ROUNDS)
    record("fast-forward", {"seconds": best, "ratio": best["1000000"] / best["1000"]})


def test_a_run_too_large_to_step_through(record):
    losses, seconds = large_run()
    assert losses[-1] < losses[0] / 2
    record("large run", {"seconds": seconds, "total": sum(seconds.values())})
