"""Where the time of a step goes: shares of the rate of a large matrix product.

Four contenders compute in the same rounds: a large product; the five products of a step at their
own shapes, nothing else; the kernel made of these products in torch (`kernels.two_layer_torch`);
the kernel in C++ (`kernels.native`). Only the operations of the products are counted, the same
number for all; for the linear net's squared loss C++ needs fewer, through moments.
"""

import shutil
import time

import pytest
import torch

from learning_dynamics.activations import activation
from learning_dynamics.kernels.ensemble import CACHE
from learning_dynamics.kernels.native import ReluNative
from learning_dynamics.kernels.two_layer_torch import Data, DenseKernel, ProductKernel
from learning_dynamics.losses import squared
from test_baselines import CASES, build, descent
from timing import fastest, gemm

STEPS, ROUNDS = 100, 9


def relu_products(w1, problem):
    """The five products of a ReLU step for one chunk, as a function of no arguments."""
    c, m1, m0 = w1.shape
    m2, n = problem.targets.shape
    b, bt, f, ft = (w1.new_zeros(c, *s) for s in ((m2, m1), (m1, m2), (m2, n), (n, m2)))
    z, p, d1, d2 = (w1.new_zeros(c, *s) for s in ((m1, n), (m1, n), (m1, m0), (m1, m2)))
    x = problem.inputs.expand(c, -1, -1)
    xt = problem.inputs.mT.contiguous().expand(c, -1, -1)

    def step():
        torch.bmm(w1, x, out=z)
        torch.bmm(b, z, out=f)
        torch.bmm(z, ft, out=d2)
        torch.bmm(bt, f, out=p)
        torch.bmm(p, xt, out=d1)

    return step


def linear_products(w1, problem):
    """The five products of a step through W = W2 W1 for one chunk."""
    c, m1, m0 = w1.shape
    m2, n = problem.targets.shape
    w2t, w, f, ct, d2 = (
        w1.new_zeros(c, *s) for s in ((m1, m2), (m2, m0), (m2, n), (m0, m2), (m1, m2))
    )
    d1, x, xt = torch.zeros_like(w1), problem.inputs, problem.inputs.mT.contiguous()
    tall, errors = w.flatten(0, 1), f.flatten(0, 1)

    def step():
        torch.bmm(w2t.mT, w1, out=w)
        torch.mm(tall, x, out=errors)
        torch.mm(errors, xt, out=tall)
        torch.bmm(w1, ct, out=d2)
        torch.bmm(w2t, w, out=d1)

    return step


def products(weights, problem, steps, kernel):
    """The five products alone, in chunks like the kernel's."""
    runs, m1, m0 = weights.w1.shape
    m2, n = problem.targets.shape
    w1 = weights.w1
    chunk = max(1, CACHE // (kernel.elements((m0, m1, m2, n)) * w1.element_size()))
    of = linear_products if kernel is ProductKernel else relu_products

    def run():
        for start in range(0, runs, chunk):
            step = of(w1[start : start + chunk].clone(), problem)
            for _ in range(steps):
                step()

    return run


@pytest.mark.parametrize("name", CASES)
def test_shares_of_the_peak(name, record):
    act, weights, problem = build(name)
    runs, m1, m0 = weights.w1.shape
    kernel = ProductKernel if act == "linear" else DenseKernel
    flops = kernel.flops((m0, m1, *problem.targets.shape)) * runs * STEPS
    product, operations = gemm(weights.w1.dtype, flops)
    calls = {
        "its five products alone": products(weights, problem, STEPS, kernel),
        "torch": descent(weights, problem, act, STEPS, "torch"),
        "C++": descent(weights, problem, act, STEPS, "native"),
    }
    best = fastest({"a large product": product, **calls}, ROUNDS)
    peak = operations / best["a large product"]
    shares = {call: flops / best[call] / peak for call in calls}
    record(f"roofline {name}", {"gflops": 1e-9 * peak, "shares": shares})


@pytest.mark.filterwarnings("ignore")  # the compiler warns about itself
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_torch_compile(record):
    """The step as one writes it, compiled, for one chunk."""
    runs, steps = 16, 20
    act, weights, problem = build("ReLU 10-50-5, float64", runs)
    (_, m1, m0), (m2, n) = weights.w1.shape, problem.targets.shape
    x, y, rate = problem.inputs, problem.targets, 0.01 / n

    def step(w1, w2):
        z = w1 @ x
        h = torch.relu(z)
        r = w2 @ h - y
        back = (w2.mT @ r) * (z > 0)
        return w1 - rate * (back @ x.mT), w2 - rate * (r @ h.mT)

    compiled, begin = torch.compile(step), time.perf_counter()
    with torch.no_grad():
        for got, want in zip(compiled(*weights), step(*weights), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)
    once = time.perf_counter() - begin

    def repeat(call):
        def run():
            with torch.no_grad():
                w = weights
                for _ in range(steps):
                    w = call(*w)

        return run

    def bound(kind):
        kernel = kind(runs, (m0, m1, m2, n), activation(act), weights.w1)
        scale = torch.full((runs, 1, 1), rate, dtype=weights.w1.dtype)
        data = Data(x, x.mT.contiguous(), y)
        kernel.bind(kernel.pack(weights), data, squared(), scale)
        return lambda: kernel.advance(steps)

    calls = {
        "as written": repeat(step),
        "torch.compile": repeat(compiled),
        "torch": bound(DenseKernel),
        "C++": bound(ReluNative),
    }
    best = fastest(calls, ROUNDS)
    ratios = {call: seconds / best["torch.compile"] for call, seconds in best.items()}
    record("torch.compile", {"compile_seconds": once, "ratios": ratios})
