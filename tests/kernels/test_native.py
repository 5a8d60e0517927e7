"""The C++ kernels against the reference in PyTorch, and when which of them is taken."""

import itertools
import math
import random
from dataclasses import replace

import pytest
import torch

from learning_dynamics.activations import activation, leaky_relu
from learning_dynamics.kernels import compiler, native
from learning_dynamics.kernels.two_layer_torch import Data, DenseKernel, ProductKernel
from learning_dynamics.losses import cross_entropy, huber, logistic, squared
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.two_layer import (
    Stop,
    Weights,
    choose_kernel,
    gradient_descent,
    initialise,
    uniform_grid,
)

pytestmark = pytest.mark.skipif(not compiler.command(), reason="no C++ compiler on this machine")
RUNS, FROZEN = 5, 2
#: m0, m1, m2, n: every remainder by a vector, by four units, by a block of rows or columns.
SIZES = [(1, 1, 1, 1), (2, 3, 1, 5), (4, 7, 3, 13), (33, 19, 11, 42)]
ACTIVATIONS = {"linear": activation("linear"), "relu": activation("relu"), "leaky": leaky_relu(0.2)}


def doubled(f, y):
    """A residual that no kernel knows."""
    return 2 * (f - y)


def own_omega(*shape):
    return torch.rand(*shape, generator=generator("omega", *shape), dtype=torch.float64)


#: name -> m2, n -> loss
LOSSES = {
    "squared": lambda m2, n: squared(),
    "weighted": lambda m2, n: squared(own_omega(m2, n)),
    "weighted by run": lambda m2, n: squared(own_omega(RUNS, m2, n)),
    "huber": lambda m2, n: huber(0.3),
    "logistic": lambda m2, n: logistic(),
    "cross_entropy": lambda m2, n: cross_entropy(),
    "unknown": lambda m2, n: replace(squared(), residual=doubled, residual_=None),
}


def case(sizes, loss="squared", own_data=False, scale=0.5, dtype=torch.float64):
    """Weights and a problem of these sizes."""
    m0, m1, m2, n = sizes
    g, runs = generator("native", *sizes), (RUNS,) if own_data else ()
    x = torch.randn(*runs, m0, n, generator=g, dtype=torch.float64)
    y = torch.randn(*runs, m2, n, generator=g, dtype=torch.float64)
    y = {"logistic": y.sign(), "cross_entropy": torch.softmax(y, -2)}.get(loss, y)
    w = initialise((m0, m1, m2), scale, [generator("native start", i) for i in range(RUNS)])
    return Weights(*(t.to(dtype) for t in w)), Problem(x.to(dtype), y.to(dtype))


def kernel_for(act):
    return native.LinearNative if act.name == "linear" else native.ReluNative


def stepped(kind, act, weights, problem, loss, steps=12):
    """First outputs, weights and last outputs; run FROZEN is frozen, looks fall between steps."""
    x, sizes = problem.inputs, (*weights.w1.shape[:0:-1], *problem.targets.shape[-2:])
    kernel, packed = kind(RUNS, sizes, act, weights.w1), DenseKernel.pack(weights)
    scale = torch.linspace(0.02, 0.05, RUNS, dtype=weights.w1.dtype).reshape(-1, 1, 1) / sizes[-1]
    scale[FROZEN] = 0
    kernel.bind(packed, Data(x, x.mT.contiguous(), problem.targets), loss, scale)
    first = kernel.outputs().clone()
    for count in (0, 1, 2, steps - 3):
        kernel.advance(count)
    return first, *packed, kernel.outputs().clone()


def difference(one, other):
    """Largest difference of each run over its largest entry, the worst run and tensor."""
    worst = 0.0
    for a, b in zip(one, other, strict=True):
        a, b = a.flatten(1), b.flatten(1)
        tiny = torch.finfo(b.dtype).tiny
        worst = max(worst, float(((a - b).abs().amax(1) / b.abs().amax(1).clamp_min(tiny)).max()))
    return worst


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ACTIVATIONS)
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
        weights, problem = case(sizes, loss, draw.random() < 0.5, scale, dtype)
        criterion = LOSSES[loss](sizes[2], sizes[3])
        ours = stepped(kernel_for(act), act, weights, problem, criterion)
        theirs = stepped(DenseKernel, act, weights, problem, criterion)
        assert difference(ours, theirs) < bound, (sizes, scale)
        assert torch.equal(ours[1][FROZEN], weights.w1[FROZEN])
        assert torch.equal(ours[2][FROZEN], weights.w2[FROZEN].mT)


def both(weights, problem, **options):
    """The trajectories of the two backends."""
    options = {"step_size": 0.05, "steps": 40, "activation": "relu"} | options
    ends = [gradient_descent(weights, problem, backend=b, **options) for b in ("native", "torch")]
    assert [end.backend for end in ends] == ["native", "torch"]
    return ends


@pytest.mark.parametrize("act", ["linear", "relu"])
def test_stops_and_divergences_at_the_same_steps(act):
    eta = torch.tensor([0.02, 0.05, 3.0, 0.1, 50.0], dtype=torch.float64)
    options = {"activation": act, "on_divergence": "mark", "stop": Stop(loss=0.81)}
    options |= {"record_at": uniform_grid(300, 5), "observables": ("loss", "gradient_norm")}
    one, other = both(*case((4, 7, 3, 13)), step_size=eta, steps=300, **options)
    lost = other.diverged_at >= 0
    assert lost.any() and (other.stopped_at >= 0).any()
    assert torch.equal(one.diverged_at, other.diverged_at)
    assert torch.equal(one.stopped_at, other.stopped_at)
    assert difference([w[~lost] for w in one.final], [w[~lost] for w in other.final]) < 1e-10
    for name in ("loss", "gradient_norm"):
        torch.testing.assert_close(one[name], other[name], rtol=1e-10, atol=0, equal_nan=True)


@pytest.mark.parametrize("loss", ["squared", "weighted", "huber", "logistic", "cross_entropy"])
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_broken_number_is_seen_as_in_the_reference(name, loss, broken):
    """Before and after a step: finite in the same outputs. relu(NaN) is NaN, relu(-inf) is 0."""
    act, sizes = ACTIVATIONS[name], (4, 7, 3, 13)
    weights, problem = case(sizes, loss)
    weights.w1[3, 4, 0] = broken
    if math.isinf(broken):  # of one sign for all samples, so that a unit can be dead
        problem = Problem(problem.inputs.abs(), problem.targets)
        weights.w1[3, 4] = broken
    criterion = LOSSES[loss](3, 13)
    ours, theirs = (
        stepped(kind, act, weights, problem, criterion, steps=4)
        for kind in (kernel_for(act), DenseKernel)
    )
    for a, b in zip((ours[0], ours[3]), (theirs[0], theirs[3]), strict=True):
        assert torch.equal(a.isfinite().all(-1).all(-1), b.isfinite().all(-1).all(-1))


@pytest.mark.parametrize("act", ["linear", "relu"])
def test_a_run_does_not_depend_on_its_company(act):
    """Bits, not tolerances: threads, chunks and looks decide nothing."""
    weights, problem = case((10, 50, 5, 200))
    weights = Weights(*(w.repeat(8, 1, 1) for w in weights))
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


REFUSED = {
    "activation tanh: allowed are linear": (activation("tanh"), 7, DOUBLE),
    "slope >= 0": (leaky_relu(-0.5), 7, DOUBLE),
    "m0 \\+ m2 = 129: at most 128": (RELU, 125, DOUBLE),
    "weights are torch.float16 on cpu": (RELU, 7, DOUBLE.half()),
    "on meta: must be float32 or float64, cpu": (LINEAR, 7, DOUBLE.to("meta")),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_it_does_not_take(words):
    (act, outputs, like), long = REFUSED[words], 10**9
    sizes = (4, 7, outputs, 13)
    assert choose_kernel(act, sizes, like, 1, long, "auto")[1] == "torch"
    with pytest.raises(ValueError, match=f"backend = 'native': .*{words}"):
        choose_kernel(act, sizes, like, 1, long, "native")
    with pytest.raises(ValueError, match=words):
        native.ReluNative(1, sizes, act, like)


def test_a_loss_is_known_by_its_residual():
    """A loss that kept its name but has another residual is not taken for the first."""
    weights, problem = case((4, 7, 3, 13))
    loss = replace(squared(), residual=doubled, residual_=None)
    one, other = both(weights, problem, loss=loss)
    plain, _ = both(weights, problem)
    assert difference(one.final, other.final) < 1e-12 < difference(one.final, plain.final)


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
        name = "native" if issubclass(taken, native._Native) else "torch"
        assert choose_kernel(act, sizes, DOUBLE, 1, steps, backend) == (taken, name)
