"""The C++ kernels against the reference in PyTorch, and when which of them is taken."""

import itertools
import math
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


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_steps_of_the_reference(name, loss):
    """Relative to each run's own weights, also where these are tiny."""
    act = ACTIVATIONS[name]
    for sizes, own_data, scale in itertools.product(SIZES, (False, True), (1, 1e-6, 1e-20)):
        weights, problem = case(sizes, loss, own_data, scale)
        criterion = LOSSES[loss](sizes[2], sizes[3])
        ours = stepped(kernel_for(act), act, weights, problem, criterion)
        assert difference(ours, stepped(DenseKernel, act, weights, problem, criterion)) < 1e-12
        assert torch.equal(ours[1][FROZEN], weights.w1[FROZEN])
        assert torch.equal(ours[2][FROZEN], weights.w2[FROZEN].mT)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_single_precision(name, loss):
    """Twelve steps of a dozen roundings at 6e-8 each; no sample is that close to a kink here."""
    act = ACTIVATIONS[name]
    for sizes, scale in itertools.product(SIZES[2:], (0.5, 1e-15)):
        weights, problem = case(sizes, loss, scale=scale, dtype=torch.float32)
        criterion = LOSSES[loss](sizes[2], sizes[3])
        ours, theirs = (
            stepped(kind, act, weights, problem, criterion)
            for kind in (kernel_for(act), DenseKernel)
        )
        assert difference(ours, theirs) < 1e-5


def both(weights, problem, **options):
    """The trajectories of the two backends."""
    options = {"step_size": 0.05, "steps": 40, "activation": "relu"} | options
    ends = [gradient_descent(weights, problem, backend=b, **options) for b in ("native", "torch")]
    assert [end.backend for end in ends] == ["native", "torch"]
    return ends


@pytest.mark.parametrize("act", ["linear", "relu"])
def test_stops_and_divergences_at_the_same_steps(act):
    weights, problem = case((4, 7, 3, 13))
    eta = torch.tensor([0.02, 0.05, 3.0, 0.1, 50.0], dtype=torch.float64)
    one, other = both(
        weights,
        problem,
        step_size=eta,
        steps=300,
        on_divergence="mark",
        stop=Stop(loss=0.81),
        record_at=uniform_grid(300, 5),
        activation=act,
        observables=("loss", "gradient_norm"),
    )
    lost = other.diverged_at >= 0
    assert lost.any() and (other.stopped_at >= 0).any()
    assert torch.equal(one.diverged_at, other.diverged_at)
    assert torch.equal(one.stopped_at, other.stopped_at)
    for a, b in zip(one.final, other.final, strict=True):
        assert difference([a[~lost]], [b[~lost]]) < 1e-10
    for name in ("loss", "gradient_norm"):
        torch.testing.assert_close(one[name], other[name], rtol=1e-10, atol=0, equal_nan=True)


def test_a_diverging_run_is_named():
    with pytest.raises(ValueError, match=r"run 0 diverged at step \d+ with step_size = 1e\+06"):
        gradient_descent(
            *case((4, 7, 3, 13)), step_size=1e6, steps=100, activation="relu", backend="native"
        )


@pytest.mark.parametrize("loss", ["squared", "weighted", "huber", "logistic", "cross_entropy"])
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_broken_number_is_seen_as_in_the_reference(name, loss, broken):
    """Before and after a step: finite in the same outputs. relu(NaN) is NaN, relu(-inf) is 0."""
    act, sizes = ACTIVATIONS[name], (4, 7, 3, 13)
    weights, problem = case(sizes, loss)
    weights.w1[3, 4] = broken * torch.tensor([0.0 if math.isnan(broken) else 1, 0, 0, 0]).double()
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
    alone = gradient_descent(
        Weights(*(w[3:4] for w in weights)), problem, record_at=torch.tensor([30]), **options
    ).final
    for k in (0, 1):
        assert torch.equal(ends[0][k], ends[1][k]) and torch.equal(ends[0][k], ends[2][k])
        assert torch.equal(ends[0][k][3:4], alone[k])


# --- which one is taken -------------------------------------------------------------------------

RELU, LINEAR = activation("relu"), activation("linear")
DOUBLE = torch.empty(1, dtype=torch.float64)


@pytest.mark.parametrize(
    ("act", "sizes", "like", "words"),
    [
        (activation("tanh"), (4, 7, 3, 13), DOUBLE, "activation tanh: allowed are linear"),
        (leaky_relu(-0.5), (4, 7, 3, 13), DOUBLE, "slope >= 0"),
        (RELU, (122, 7, 7, 13), DOUBLE, "m0 \\+ m2 = 129: at most 128"),
        (RELU, (4, 7, 3, 13), DOUBLE.half(), "weights are torch.float16 on cpu"),
        (LINEAR, (4, 7, 3, 13), DOUBLE.to("meta"), "on meta: must be float32 or float64, cpu"),
    ],
)
def test_what_it_does_not_take(act, sizes, like, words):
    long = 10**9
    assert choose_kernel(act, sizes, like, 1, long, "auto")[1] == "torch"
    with pytest.raises(ValueError, match=f"backend = 'native': .*{words}"):
        choose_kernel(act, sizes, like, 1, long, "native")
    with pytest.raises(ValueError, match=words):
        native.ReluNative(1, sizes, act, like)


def test_unknown_backend(as_users_run):
    with pytest.raises(
        ValueError, match="backend = 'gpu': allowed are auto, graph, native, torch, triton"
    ):
        gradient_descent(*case((4, 7, 3, 13)), step_size=0.1, steps=1, backend="gpu")


def test_a_loss_is_known_by_its_residual():
    """A loss that kept its name but has another residual is not taken for the first."""
    weights, problem = case((4, 7, 3, 13))
    loss = replace(squared(), residual=doubled, residual_=None)
    one, other = both(weights, problem, loss=loss)
    plain, _ = both(weights, problem)
    assert difference(one.final, other.final) < 1e-12 < difference(one.final, plain.final)


def test_long_runs_only_and_whatever_the_cache_holds():
    sizes = (4, 20, 3, 13)
    assert choose_kernel(RELU, sizes, DOUBLE, 1, 100, "native") == (native.ReluNative, "native")
    assert choose_kernel(RELU, sizes, DOUBLE, 1, 100, "auto") == (DenseKernel, "torch")
    assert choose_kernel(LINEAR, sizes, DOUBLE, 1, 100, "auto") == (ProductKernel, "torch")
    assert choose_kernel(RELU, sizes, DOUBLE, 1, 10**6, "auto") == (native.ReluNative, "native")
    assert choose_kernel(LINEAR, sizes, DOUBLE, 1, 10**6, "auto") == (native.LinearNative, "native")
    assert choose_kernel(RELU, sizes, DOUBLE, 1, 10**6, "torch") == (DenseKernel, "torch")


def test_addresses_are_checked():
    weights, problem = case((4, 7, 3, 13))
    x, y, scale = problem.inputs, problem.targets, torch.ones(RUNS, 1, 1, dtype=torch.float64)
    kernel = native.ReluNative(RUNS, (4, 7, 3, 13), RELU, weights.w1)
    packed = kernel.pack(weights)
    for bad, data, eta in [
        ([packed[0][:, :6], packed[1]], (x, y), scale),
        (packed, (x[:3], y), scale),
        (packed, (x, y[:, :12]), scale),
        (packed, (x, y), scale.float()),
        (packed, (x.float(), y), scale),
        ([packed[0][0], packed[1]], (x, y), scale),  # one run's weights are not all runs' weights
    ]:
        with pytest.raises(ValueError, match="must be|allowed is"):
            kernel.bind(bad, Data(data[0], data[0].mT.contiguous(), data[1]), squared(), eta)
