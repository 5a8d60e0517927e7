"""The fused step against the plain products: same runs, stops and divergences, any shape."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from learning_dynamics.activations import activation, leaky_relu
from learning_dynamics.losses import cross_entropy, huber, logistic, squared
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator
from learning_dynamics.saddles import fused, two_layer
from learning_dynamics.saddles.kernels import Data, DenseKernel, choose_kernel
from learning_dynamics.saddles.two_layer import (
    Stop,
    Weights,
    gradient_descent,
    initialise,
    uniform_grid,
)

pytest.importorskip("llvmlite")
from learning_dynamics.saddles import step_code  # noqa: E402

pytestmark = pytest.mark.skipif(
    step_code.register_file() is None, reason="no fused multiply-add on this machine"
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
    chosen = []

    def note(*arguments):
        chosen.append(choose_kernel(*arguments))
        return chosen[-1]

    with monkeypatch.context() as patch:
        patch.setattr(fused, "largest", lambda _: 100)  # right for any shape, if not fast
        patch.setattr(two_layer, "choose_kernel", note)
        one = gradient_descent(weights, problem, **options)
        patch.setattr(two_layer, "choose_kernel", lambda *_: DenseKernel)
        other = gradient_descent(weights, problem, **options)
    assert chosen == [fused.FusedKernel]
    return one, other


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


@pytest.mark.parametrize("act", ["relu", leaky_relu(0.2), leaky_relu(-0.5)], ids=lambda a: str(getattr(a, "name", a)))
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("own_data", [False, True])
def test_the_runs_of_the_plain_kernel(monkeypatch, act, loss, own_data):
    weights, problem = case(loss=loss, own_data=own_data)
    agree(*both(monkeypatch, weights, problem, activation=act, loss=LOSSES[loss],
                observables=("loss", "gradient_norm")))


@pytest.mark.parametrize("entries", [(), (RUNS,)])
def test_weights_of_entries(monkeypatch, entries):
    weights, problem = case()
    omega = torch.rand(*entries, 3, 13, generator=generator("omega"), dtype=torch.float64)
    agree(*both(monkeypatch, weights, problem, loss=squared(omega)))


@pytest.mark.parametrize(
    "sizes", [(1, 1, 1, 1), (2, 50, 1, 5), (10, 50, 5, 200), (33, 9, 11, 40), (64, 6, 16, 24)]
)
def test_any_shape(monkeypatch, sizes):
    agree(*both(monkeypatch, *case(*sizes), step_size=0.02, steps=20))


@pytest.mark.parametrize("sizes", [(4, 7, 3, 13), (33, 9, 11, 40)])
def test_single_precision(monkeypatch, sizes):
    """Forty steps of rounding at 6e-8, so a few hundred times that."""
    agree(*both(monkeypatch, *case(*sizes, dtype=torch.float32), step_size=0.02), tolerance=3e-5)


def test_with_few_registers(monkeypatch):
    """The code for machines with 16 registers of four numbers, run on any wider one."""
    if step_code.register_file()[0] < 32:
        pytest.skip("narrower registers")
    step_code.step_code.cache_clear()
    monkeypatch.setattr(step_code, "register_file", lambda: (32, 16))
    agree(*both(monkeypatch, *case(10, 9, 5, 30)))
    step_code.step_code.cache_clear()


def test_stops_and_divergences_at_the_same_steps(monkeypatch):
    weights, problem = case()
    eta = torch.tensor([0.02, 0.05, 3.0, 0.1, 50.0], dtype=torch.float64)
    one, other = both(
        monkeypatch, weights, problem, step_size=eta, steps=300, on_divergence="mark",
        stop=Stop(loss=0.6), record_at=uniform_grid(300, 5),
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


def test_a_run_does_not_depend_on_its_company():
    """Bits, not tolerances: threads and chunks decide nothing."""
    weights, problem = case(10, 50, 5, 200)
    weights = Weights(*(w.repeat(8, 1, 1) for w in weights))
    threads, ends = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            ends.append(gradient_descent(
                weights, problem, step_size=0.05, steps=30, activation="relu"
            ).final)
    finally:
        torch.set_num_threads(threads)
    alone = gradient_descent(
        Weights(*(w[3:4] for w in weights)), problem, step_size=0.05, steps=30,
        activation="relu",
    ).final
    for k in (0, 1):
        assert torch.equal(ends[0][k], ends[1][k]) and torch.equal(ends[0][k], ends[2][k])
        assert torch.equal(ends[0][k][3:4], alone[k])


def test_a_broken_number_stays_broken():
    """relu(NaN) is NaN, as in torch: a run that is lost is seen to be lost."""
    weights, problem = case()
    like, act = weights.w1, activation("relu")
    kernel = fused.FusedKernel(RUNS, (4, 7, 3, 13), act, like)
    packed = kernel.pack(weights)
    packed[0][2, 4, 1] = torch.nan
    scale = torch.full((RUNS, 1, 1), 0.01, dtype=torch.float64)
    x = problem.inputs
    kernel.bind(packed, Data(x, x.mT.contiguous(), problem.targets), squared(), scale)
    finite = kernel.outputs().isfinite().all(-1).all(-1)
    assert finite.tolist() == [True, True, False, True, True]


def test_where_it_is_used():
    sizes, relu = (4, 7, 3, 13), activation("relu")
    like = torch.empty(1, dtype=torch.float64)
    assert choose_kernel(relu, sizes, like) is fused.FusedKernel
    assert choose_kernel(leaky_relu(0.3), sizes, like.float()) is fused.FusedKernel
    assert choose_kernel(relu, sizes, like.to("meta")) is DenseKernel
    assert choose_kernel(relu, sizes, like.half()) is DenseKernel
    assert choose_kernel(relu, (20, 7, 5, 13), like) is DenseKernel
    assert choose_kernel(activation("tanh"), sizes, like) is DenseKernel


def test_without_llvmlite_the_plain_kernel_is_chosen(monkeypatch):
    monkeypatch.setattr(fused, "find_spec", lambda name: None)
    like = torch.empty(1, dtype=torch.float64)
    assert choose_kernel(activation("relu"), (4, 7, 3, 13), like) is DenseKernel


def test_the_slope_is_the_activation_s():
    assert fused.negative_slope(activation("relu")) == 0
    assert fused.negative_slope(leaky_relu(0.123456789)) == 0.123456789
    assert fused.negative_slope(activation("gelu")) is None
    with pytest.raises(ValueError, match="activation gelu: allowed are relu and leaky_relu"):
        fused.FusedKernel(1, (1, 1, 1, 1), activation("gelu"), torch.empty(1))


def test_the_compiler_is_loaded_only_when_a_net_needs_it():
    code = (
        "import sys, learning_dynamics.saddles.two_layer as t; "
        "sys.exit('llvmlite' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
