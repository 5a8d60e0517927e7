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
from torch.utils._python_dispatch import TorchDispatchMode

from learning_dynamics.activations import activation
from learning_dynamics.kernels.ensemble import CACHE
from learning_dynamics.kernels.native import ReluNative
from learning_dynamics.kernels.two_layer_torch import Data, DenseKernel, ProductKernel
from learning_dynamics.losses import squared
from test_baselines import CASES, build, descent
from timing import fastest, gemm

STEPS, ROUNDS = 100, 9


class Recorder(TorchDispatchMode):
    """Keeps the matrix products, with the memory that they work on."""

    def __init__(self):
        super().__init__()
        self.products = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        product = getattr(torch, function.overloadpacket.__name__.removesuffix("_"), None)
        if product in (torch.mm, torch.bmm, torch.baddbmm):
            self.products.append((product, args, {"out": args[0], **(kwargs or {})}))
        return function(*args, **(kwargs or {}))


def products(weights, problem, act, steps, kind):
    """The products of the kernel's steps alone, in chunks like the kernel's."""
    runs, m1, m0 = weights.w1.shape
    sizes = (m0, m1, *problem.targets.shape)
    chunk = max(1, CACHE // (kind.elements(sizes) * weights.w1.element_size()))
    x, y = problem.inputs, problem.targets
    taken = []
    for i in range(0, runs, chunk):
        packed = [p[i : i + chunk] for p in kind.pack(weights)]
        kernel = kind(len(packed[0]), sizes, activation(act), packed[0])
        scale = 0 * packed[0][:, :1, :1]
        kernel.bind(packed, Data(x, x.mT.contiguous(), y), squared(), scale)
        with Recorder() as recorder:
            kernel.advance(1)
        taken.append(recorder.products)

    def run():
        for chunk in taken:
            for _ in range(steps):
                for product, args, options in chunk:
                    product(*args, **options)

    return run


@pytest.mark.parametrize("name", CASES)
def test_shares_of_the_peak(name, record):
    act, weights, problem = build(name)
    runs, m1, m0 = weights.w1.shape
    kernel = ProductKernel if act == "linear" else DenseKernel
    flops = kernel.flops((m0, m1, *problem.targets.shape)) * runs * STEPS
    product, operations = gemm(weights.w1.dtype, flops)
    calls = {
        "its five products alone": products(weights, problem, act, STEPS, kernel),
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
