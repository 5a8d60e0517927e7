"""How far the numbers move with the order of summation and in single precision.

The order depends on the number of threads and on the instructions that a processor has.
Run as a script this file prints its cases: a process takes its instructions when it starts.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from learning_dynamics.data.digits import digits_pair
from learning_dynamics.kernels.weights import Weights
from learning_dynamics.problems import Problem, linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.two_layer import gradient_descent, initialise
from learning_dynamics.scales.exponent_check import exponent_check
from learning_dynamics.scales.parametrizations import WidthFamily
from learning_dynamics.scales.training import initialise as initialise_deep
from learning_dynamics.scales.training import sgd


def two_layer(dtype: torch.dtype) -> torch.Tensor:
    """Losses of one ReLU run from scale 1e-3 through its plateaus."""
    problem = linear_teacher(generator=generator("other machines"))
    problem = Problem(problem.inputs.to(dtype), problem.targets.to(dtype))
    start = initialise((6, 10, 4), 1e-3, [generator("start")])
    start = Weights(start.w1.to(dtype), start.w2.to(dtype))
    run = gradient_descent(start, problem, step_size=0.02, steps=1500, activation="relu")
    return run["loss"].double().flatten()


def trained(dtype: torch.dtype) -> torch.Tensor:
    """Train losses of a six-layer net on digits, after 0 to 60 steps."""
    problem = digits_pair(3, 8, source="sklearn", dtype=dtype).train
    widths = (64, 96, 12, 96, 12, 96, 2)
    state = initialise_deep(widths, (2**0.5,) * 5 + (1.0,), [0])  # the same draws
    state = replace(state, weights=tuple(w.to(dtype) for w in state.weights))
    options = {"seeds": [0], "step_size": 0.1, "steps": 60, "batch_size": 32}
    options |= {"evaluate": {"train": problem}, "record": (0, 20, 60)}
    run = sgd(problem, state, [n**-0.5 for n in widths[:-1]], **options)
    return run["train_loss"].double().flatten()


def checked(dtype: torch.dtype) -> torch.Tensor:
    """Contributions in a coordinate check; each precision has draws of its own."""
    family = WidthFamily((0, 1, "1/5", 1, 0), (8, 1, 8, 1, 2))
    check = exponent_check(["dp(1/2)"], family, [64, 128, 256], runs=4, dtype=dtype)
    return check.values["dp(1/2)"]["contribution"].double().flatten()


CASES = {"saddle to saddle": two_layer, "six layers": trained, "coordinate check": checked}


#: What makes PyTorch and its libraries compute as on a processor with fewer instructions.
PROCESSORS = {
    "no AVX-512": {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    "no vectors": {"MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default"},
}


@pytest.fixture(autouse=True)
def threads():
    yield
    torch.set_num_threads(1)


def numbers(name, dtype=torch.float64, threads=1):
    torch.set_num_threads(threads)
    return CASES[name](dtype)


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference, relative to the largest entry."""
    good = a.isfinite() & b.isfinite()
    assert good.any()
    return float((a - b)[good].abs().max() / b[good].abs().max())


@pytest.mark.parametrize("name", CASES)
def test_numbers_move_little(name):
    one = numbers(name)
    # rounding (1e-16, 1e-7) times what a plateau from scale 1e-3 amplifies, about 1e3, and more
    assert apart(numbers(name, threads=2), one) <= 1e-9
    assert CASES[name] is checked or 0 < apart(numbers(name, torch.float32), one) <= 1e-3


@pytest.mark.parametrize("processor", PROCESSORS)
def test_numbers_move_little_between_processors(processor):
    own = os.environ | PROCESSORS[processor]
    capability, found = json.loads(subprocess.check_output([sys.executable, __file__], env=own))
    assert capability != "AVX512"
    for name, there in found.items():  # seen: 5e-16; the plateaus amplify as with threads
        assert apart(torch.tensor(there, dtype=torch.float64), numbers(name)) <= 1e-9


if __name__ == "__main__":
    found = {name: numbers(name).tolist() for name in CASES}
    print(json.dumps((torch.backends.cpu.get_cpu_capability(), found)))
