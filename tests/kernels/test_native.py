"""The C++ kernels against the reference in PyTorch, and when which of them is taken."""

import itertools
import math
import random
from dataclasses import replace

import pytest
import torch

from kernel_cases import ACTIVATIONS, LOSSES, case, difference, stepped
from learning_dynamics.activations import activation, leaky_relu
from learning_dynamics.kernels import compiler, native
from learning_dynamics.kernels.two_layer_torch import DenseKernel, ProductKernel
from learning_dynamics.losses import squared
from learning_dynamics.problems import Problem
from learning_dynamics.saddles.two_layer import (
    Stop,
    Weights,
    choose_kernel,
    gradient_descent,
    uniform_grid,
)

pytestmark = pytest.mark.skipif(not compiler.command(), reason="no C++ compiler on this machine")
#: m0, m1, m2, n: every remainder by a vector, by four units, by a block of rows or columns.
SIZES = [(1, 1, 1, 1), (2, 3, 2, 5), (4, 7, 3, 13), (33, 19, 11, 42)]
BENT = ("linear", "relu", "leaky")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", BENT)
def test_the_steps_of_the_reference(name, loss, dtype):
    """Of widths and numbers of samples at random, relative to each run's own weights however tiny.

    Single precision: twelve steps of a dozen roundings at 6e-8 each; no sample is that close to
    a kink here.
    """
    act, draw = ACTIVATIONS[name], random.Random(f"{name}, {loss}")
    scales, bound = ((0.3, 1e-6, 1e-20), 1e-12) if dtype == torch.float64 else ((0.5, 1e-15), 1e-5)
    for sizes, scale in itertools.product(SIZES, scales):
        if draw.random() < 0.5:
            sizes = (sizes[0], draw.randint(1, 40), sizes[2], draw.randint(1, 70))
        given = case(sizes, loss, own=draw.random() < 0.5, scale=scale, dtype=dtype)
        ours, theirs = (
            stepped(k, act, *given) for k in (native.kernel_for(act, given[2]), DenseKernel)
        )
        assert difference(ours, theirs) < bound, (sizes, scale)


@pytest.mark.parametrize(("act", "level"), [("linear", 1.225), ("relu", 0.9)])
def test_stops_and_divergences_at_the_same_steps(act, level):
    eta = torch.tensor([0.02, 0.05, 3.0, 0.1, 50.0], dtype=torch.float64)
    options = {"activation": act, "on_divergence": "mark", "stop": Stop(loss=level)}
    options |= {"record_at": uniform_grid(300, 5), "observables": ("loss", "gradient_norm")}
    weights, problem, _ = case((4, 7, 3, 13))
    one, other = (
        gradient_descent(weights, problem, step_size=eta, steps=300, backend=b, **options)
        for b in ("native", "torch")
    )
    lost = other.diverged_at >= 0
    assert lost.any() and (other.stopped_at >= 0).any() and one.backend == "native"
    assert torch.equal(one.diverged_at, other.diverged_at)
    assert torch.equal(one.stopped_at, other.stopped_at)
    assert difference([w[~lost] for w in one.final], [w[~lost] for w in other.final]) < 1e-10
    for name in ("loss", "gradient_norm"):
        torch.testing.assert_close(one[name], other[name], rtol=1e-10, atol=0, equal_nan=True)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", BENT)
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_broken_number_is_seen_as_in_the_reference(name, loss, broken):
    """Before and after a step: finite in the same outputs. relu(NaN) is NaN, relu(-inf) is 0."""
    act, (weights, problem, criterion) = ACTIVATIONS[name], case((4, 7, 3, 13), loss)
    weights.w1[3, 4, 0] = broken
    if math.isinf(broken):  # of one sign for all samples, so that a unit can be dead
        problem = Problem(problem.inputs.abs(), problem.targets)
        weights.w1[3, 4] = broken
    ours, theirs = (
        stepped(kind, act, weights, problem, criterion, looks=(1, 2, 1))
        for kind in (native.kernel_for(act, criterion), DenseKernel)
    )
    for a, b in zip((ours[0], ours[3]), (theirs[0], theirs[3]), strict=True):
        assert torch.equal(a.isfinite().all(-1).all(-1), b.isfinite().all(-1).all(-1))


@pytest.mark.parametrize("act", ["linear", "relu"])
def test_a_run_does_not_depend_on_its_company(act):
    """Bits, not tolerances: threads, chunks and looks decide nothing."""
    weights, problem, _ = case((10, 50, 5, 200), runs=40)
    options = {"step_size": 0.05, "steps": 30, "activation": act, "backend": "native"}
    threads, ends = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            ends.append(gradient_descent(weights, problem, **options).final)
    finally:
        torch.set_num_threads(threads)
    options |= {"record_at": torch.tensor([30])}
    alone = gradient_descent(Weights(*(w[3:4] for w in weights)), problem, **options).final
    for one, two, three, single in zip(*ends, alone, strict=True):
        assert torch.equal(one, two) and torch.equal(one, three) and torch.equal(one[3:4], single)


# --- which one is taken -------------------------------------------------------------------------

RELU, LINEAR = activation("relu"), activation("linear")
DOUBLE = torch.empty(1, dtype=torch.float64)
#: A loss that kept its name but has another residual is not taken for the first.
OTHER = replace(squared(), residual=lambda f, y: 2 * (f - y), residual_=None)
REFUSED = {
    "activation tanh: allowed are linear": (activation("tanh"), 7, DOUBLE),
    "slope >= 0": (leaky_relu(-0.5), 7, DOUBLE),
    "m0 \\+ m2 = 129: at most 128": (RELU, 125, DOUBLE),
    "weights are torch.float16 on cpu": (RELU, 7, DOUBLE.half()),
    "on meta: must be float32 or float64, cpu": (LINEAR, 7, DOUBLE.to("meta")),
    "loss squared: allowed are the losses": (RELU, 7, DOUBLE),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_it_does_not_take(words):
    (act, outputs, like), long = REFUSED[words], 10**9
    sizes, loss = (4, 7, outputs, 13), OTHER if "loss" in words else squared()
    assert choose_kernel(act, sizes, like, 1, long, "auto", loss)[1] == "torch"
    with pytest.raises(ValueError, match=f"backend = 'native': .*{words}"):
        choose_kernel(act, sizes, like, 1, long, "native", loss)
    if loss is not OTHER:
        with pytest.raises(ValueError, match=words):
            native.ReluNative(1, sizes, act, like)


def test_long_runs_only_and_whatever_the_cache_holds():
    sizes = (4, 20, 3, 13)
    for act, steps, backend, taken in (
        (RELU, 100, "native", native.ReluNative),
        (RELU, 100, "auto", DenseKernel),
        (LINEAR, 100, "auto", ProductKernel),
        (RELU, 10**6, "auto", native.ReluNative),
        (LINEAR, 10**6, "auto", native.LinearNative),
        (RELU, 10**6, "torch", DenseKernel),
    ):
        name = "torch" if taken in (DenseKernel, ProductKernel) else "native"
        assert choose_kernel(act, sizes, DOUBLE, 1, steps, backend) == (taken, name)
