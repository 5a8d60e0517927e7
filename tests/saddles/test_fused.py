"""The fused steps against the plain products: same runs, stops and divergences, any shape."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies

from learning_dynamics.activations import activation, leaky_relu
from learning_dynamics.losses import cross_entropy, huber, logistic, squared
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator
from learning_dynamics.saddles import fused, two_layer
from learning_dynamics.saddles.kernels import (
    Data,
    DenseKernel,
    ProductKernel,
)
from learning_dynamics.saddles.two_layer import (
    Stop,
    Weights,
    gradient_descent,
    initialise,
    uniform_grid,
)

pytest.importorskip("llvmlite")
from learning_dynamics import code_writer  # noqa: E402
from learning_dynamics.saddles import product_code, step_code  # noqa: E402

pytestmark = pytest.mark.skipif(
    code_writer.register_file() is None, reason="no fused multiply-add on this machine"
)
RUNS = 5


def targets(loss, m2, n, g, runs=()):
    y = torch.randn(*runs, m2, n, generator=g, dtype=torch.float64)
    if loss == "logistic":
        return torch.where(y > 0, 1.0, -1.0).double()
    return torch.softmax(y, -2) if loss == "cross_entropy" else y


def case(m0=4, m1=7, m2=3, n=13, loss="squared", own_data=False, dtype=torch.float64):
    """Shapes that fill no register and no pair of units evenly."""
    g = generator("fused", m0, m1, m2, n)
    runs = (RUNS,) if own_data else ()
    x = torch.randn(*runs, m0, n, generator=g, dtype=torch.float64)
    w = initialise((m0, m1, m2), 0.5, [generator("fused start", i) for i in range(RUNS)])
    problem = Problem(x.to(dtype), targets(loss, m2, n, g, runs).to(dtype))
    return Weights(*(t.to(dtype) for t in w)), problem


def both(monkeypatch, weights, problem, **options):
    """The trajectory by the fused kernel and by the plain one."""
    options = {"step_size": 0.05, "steps": 40, "activation": "relu"} | options
    linear, ends = options["activation"] == "linear", []
    kinds = (ProductKernel, fused.FusedProductKernel) if linear else (DenseKernel, fused.FusedKernel)
    for kind in reversed(kinds):  # right for any shape, if not fast
        with monkeypatch.context() as patch:
            patch.setattr(two_layer, "choose_kernel", lambda *_, kind=kind: (kind, "torch"))
            ends.append(gradient_descent(weights, problem, **options))
    return ends


def agree(one, other, tolerance=1e-12):
    for a, b in zip(one.final, other.final, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * float(b.abs().max()))
    for name, values in other.observables.items():
        torch.testing.assert_close(
            one.observables[name], values, rtol=tolerance, atol=tolerance, equal_nan=True
        )
    assert torch.equal(one.diverged_at, other.diverged_at)
    assert torch.equal(one.stopped_at, other.stopped_at)


LOSSES = {
    "squared": squared(), "huber": huber(0.3), "logistic": logistic(),
    "cross_entropy": cross_entropy(),
}


@pytest.mark.parametrize("act", ["linear", "relu", leaky_relu(0.2), leaky_relu(-0.5)], ids=lambda a: str(getattr(a, "name", a)))
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("own_data", [False, True])
def test_the_runs_of_the_plain_kernel(monkeypatch, act, loss, own_data):
    weights, problem = case(loss=loss, own_data=own_data)
    agree(*both(monkeypatch, weights, problem, activation=act, loss=LOSSES[loss],
                observables=("loss", "gradient_norm")))


@pytest.mark.parametrize("entries", [(), (RUNS,)])
@pytest.mark.parametrize("act", ["linear", "relu"])
def test_weights_of_entries(monkeypatch, entries, act):
    weights, problem = case()
    omega = torch.rand(*entries, 3, 13, generator=generator("omega"), dtype=torch.float64)
    agree(*both(monkeypatch, weights, problem, loss=squared(omega), activation=act))


@pytest.mark.parametrize("act", ["linear", "relu"])
@pytest.mark.parametrize(
    "sizes", [(2, 50, 1, 5), (10, 50, 5, 200), (33, 19, 11, 40), (64, 36, 16, 24)]
)
def test_any_shape(monkeypatch, sizes, act):
    agree(*both(monkeypatch, *case(*sizes), step_size=0.02, steps=20, activation=act))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    strategies.sampled_from(["linear", "relu"]), strategies.integers(1, 20),
    strategies.integers(20, 40), strategies.integers(1, 20), strategies.integers(1, 50),
    strategies.booleans(), strategies.sampled_from(sorted(LOSSES)),
)
def test_every_shape_drawn(act, m0, m1, m2, n, own_data, loss):
    """Any m0, m2 and n, with every remainder by the width of a register and by a block."""
    with pytest.MonkeyPatch.context() as patch:
        weights, problem = case(m0, m1, m2, n, loss, own_data)
        agree(*both(patch, weights, problem, activation=act, loss=LOSSES[loss],
                    step_size=0.02, steps=8))


@pytest.mark.parametrize("act", ["linear", "relu"])
@pytest.mark.parametrize("sizes", [(4, 7, 3, 13), (33, 19, 11, 40)])
def test_single_precision(monkeypatch, sizes, act):
    """Forty steps of rounding at 6e-8, so a few hundred times that."""
    runs = both(monkeypatch, *case(*sizes, dtype=torch.float32), step_size=0.02, activation=act)
    agree(*runs, tolerance=3e-5)


def test_with_few_registers(monkeypatch):
    """The code for machines with 16 registers of four numbers, run on any wider one."""
    if code_writer.register_file()[0] < 32:
        pytest.skip("narrower registers")
    codes = step_code.step_code, product_code.product_code
    for code in codes:
        code.cache_clear()
    monkeypatch.setattr(code_writer, "register_file", lambda: (32, 16))
    for act in ("relu", "linear"):
        agree(*both(monkeypatch, *case(10, 9, 5, 30), activation=act))
    for code in codes:
        code.cache_clear()


@pytest.mark.parametrize("act", ["linear", "relu"])
def test_stops_and_divergences_at_the_same_steps(monkeypatch, act):
    weights, problem = case()
    eta = torch.tensor([0.02, 0.05, 3.0, 0.1, 50.0], dtype=torch.float64)
    one, other = both(
        monkeypatch, weights, problem, step_size=eta, steps=300, on_divergence="mark",
        stop=Stop(loss=0.6), record_at=uniform_grid(300, 5), activation=act,
    )
    assert (other.diverged_at >= 0).sum() >= 1 and (other.stopped_at >= 0).sum() >= 1
    lost = other.diverged_at >= 0
    agree(
        replace(one, final=Weights(*(w[~lost] for w in one.final))),
        replace(other, final=Weights(*(w[~lost] for w in other.final))), 1e-10,
    )


def test_a_diverging_run_is_named():
    weights, problem = case()
    with pytest.raises(ValueError, match=r"run 0 diverged at step \d+ with step_size = 1e\+06"):
        gradient_descent(weights, problem, step_size=1e6, steps=100, activation="relu")


@pytest.mark.parametrize("act", ["linear", "relu"])
def test_a_run_does_not_depend_on_its_company(act):
    """Bits, not tolerances: threads and chunks decide nothing."""
    weights, problem = case(10, 50, 5, 200)
    weights = Weights(*(w.repeat(8, 1, 1) for w in weights))
    options = {"step_size": 0.05, "steps": 30, "activation": act}
    threads, ends = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            ends.append(gradient_descent(weights, problem, **options).final)
    finally:
        torch.set_num_threads(threads)
    alone = gradient_descent(Weights(*(w[3:4] for w in weights)), problem, **options).final
    for k in (0, 1):
        assert torch.equal(ends[0][k], ends[1][k]) and torch.equal(ends[0][k], ends[2][k])
        assert torch.equal(ends[0][k][3:4], alone[k])


@pytest.mark.parametrize(
    "kind, act", [(fused.FusedKernel, "relu"), (fused.FusedProductKernel, "linear")]
)
def test_a_broken_number_stays_broken(kind, act):
    """relu(NaN) is NaN, as in torch: a run that is lost is seen to be lost."""
    weights, problem = case()
    kernel = kind(RUNS, (4, 7, 3, 13), activation(act), weights.w1)
    packed = kernel.pack(weights)
    packed[0][2, 4, 1] = torch.nan
    scale = torch.full((RUNS, 1, 1), 0.01, dtype=torch.float64)
    x = problem.inputs
    kernel.bind(packed, Data(x, x.mT.contiguous(), problem.targets), squared(), scale)
    finite = kernel.outputs().isfinite().all(-1).all(-1)
    assert finite.tolist() == [True, True, False, True, True]


def test_the_slope_is_the_activation_s():
    assert activation("relu").negative_slope == 0 and activation("linear").negative_slope == 1
    assert leaky_relu(0.123456789).negative_slope == 0.123456789
    assert activation("gelu").negative_slope is None
    with pytest.raises(ValueError, match="activation gelu: allowed are relu and leaky_relu"):
        fused.FusedKernel(1, (1, 1, 1, 1), activation("gelu"), torch.empty(1))
    with pytest.raises(ValueError, match="activation relu: this kernel is for linear nets"):
        fused.FusedProductKernel(1, (1, 1, 1, 1), activation("relu"), torch.empty(1))


def test_the_compiler_is_loaded_only_when_a_net_needs_it():
    code = (
        "import sys, learning_dynamics.saddles.two_layer as t; "
        "sys.exit('llvmlite' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
