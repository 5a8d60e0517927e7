"""Speed of one SGD step against the matrix products it consists of, and against a large product.

The thesis's scheme of widths n, m, n, m, n with n = 4096, batch 100, float32, one thread. The
products at their own shapes are the bar: no step can be faster than its products. The share of the
rate of a large square product is recorded beside.
"""

import time

import pytest
import torch

from timing import gemm

from learning_dynamics.problems import Problem
from learning_dynamics.scales.training import initialise, sgd

N, INPUTS, BATCH = 4096, 784, 100


def seconds(call, repeats: int) -> float:
    """Best of three timings of `repeats` calls, a call."""
    call()
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        best = min(best, (time.perf_counter() - start) / repeats)
    return best


def products(widths: tuple[int, ...]) -> float:
    """Seconds of the bare products of one step, each at its own shape and in the faster layout:
    samples along columns or along rows."""
    total = 0.0
    for layer, (fan_in, fan_out) in enumerate(zip(widths, widths[1:], strict=False)):
        w, h, d = torch.randn(fan_out, fan_in), torch.randn(fan_in, BATCH), torch.randn(fan_out, BATCH)
        rows, errors = h.mT.contiguous(), d.mT.contiguous()
        out, back = torch.empty(fan_out, BATCH), torch.empty(fan_in, BATCH)
        out_rows, back_rows = torch.empty(BATCH, fan_out), torch.empty(BATCH, fan_in)
        pairs = [
            (lambda: torch.mm(w, h, out=out), lambda: torch.mm(rows, w.mT, out=out_rows)),
            (lambda: w.addmm_(d, h.mT, alpha=-1e-9), lambda: w.addmm_(errors.mT, rows, alpha=-1e-9)),
        ]
        if layer:
            pairs.append(
                (lambda: torch.mm(w.mT, d, out=back), lambda: torch.mm(errors, w, out=back_rows))
            )
        total += sum(min(seconds(call, 5) for call in pair) for pair in pairs)
    return total


@pytest.mark.parametrize(("m", "share"), [(792, 0.80), (42, 0.65)])
@pytest.mark.usefixtures("one_thread")
def test_a_step_takes_little_more_than_its_products(m: int, share: float, record) -> None:
    widths = (INPUTS, N, m, N, m, N, 2)
    problem = Problem(torch.rand(INPUTS, BATCH), torch.rand(2, BATCH))
    scales = [1 / a**0.5 for a in widths[:-1]]
    state = initialise(widths, (1.0,) * 6, [0])
    steps = 5

    def train() -> None:
        sgd(problem, state, scales, seeds=[0], step_size=1e-6, steps=state.step + steps,
            batch_size=BATCH)

    step = seconds(train, 1) / steps
    bare = products(widths)
    flops = 2 * BATCH * (3 * sum(a * b for a, b in zip(widths, widths[1:], strict=False))
                         - widths[0] * widths[1])  # nothing flows back to the inputs
    product, operations = gemm(torch.float32)
    peak = operations / seconds(product, 5)
    record(f"training speed, m = {m}", {
        "milliseconds": 1e3 * step, "share of its products": bare / step,
        "share of a large product": flops / step / peak,
    })
    assert bare / step >= share
