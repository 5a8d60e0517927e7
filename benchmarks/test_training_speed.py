"""Speed of one SGD step against the matrix products it consists of, and against a large product.

The thesis's scheme of widths n, m, n, m, n with n = 4096, batch 100, float32. The step is made of
torch's products (`kernels.mlp_torch`). One bar are the same products at their own shapes, nothing
else; the other is the rate of a large square product.
"""

import pytest
import torch

from learning_dynamics.problems import Problem
from learning_dynamics.scales.training import initialise, sgd
from timing import fastest, gemm

N, INPUTS, BATCH, STEPS, ROUNDS = 4096, 784, 100, 6, 17


def products(widths: tuple[int, ...]):
    """A function that computes the bare products of one step, each at its own shape and in the
    layout that is faster here: samples along columns or along rows."""
    pairs = []
    for layer, (fan_in, fan_out) in enumerate(zip(widths, widths[1:], strict=False)):
        w, h, d = (torch.randn(*s) for s in ((fan_out, fan_in), (fan_in, BATCH), (fan_out, BATCH)))
        rows, errors = h.mT.contiguous(), d.mT.contiguous()
        out, back = torch.empty(fan_out, BATCH), torch.empty(fan_in, BATCH)
        out_rows, back_rows = torch.empty(BATCH, fan_out), torch.empty(BATCH, fan_in)
        pairs.append(
            {
                "columns": lambda w=w, h=h, out=out: torch.mm(w, h, out=out),
                "rows": lambda w=w, h=rows, out=out_rows: torch.mm(h, w.mT, out=out),
            }
        )
        pairs.append(
            {
                "columns": lambda w=w, d=d, h=h: w.addmm_(d, h.mT, alpha=-1e-9),
                "rows": lambda w=w, d=errors, h=rows: w.addmm_(d.mT, h, alpha=-1e-9),
            }
        )
        if layer:
            pairs.append(
                {
                    "columns": lambda w=w, d=d, out=back: torch.mm(w.mT, d, out=out),
                    "rows": lambda w=w, d=errors, out=back_rows: torch.mm(d, w, out=out),
                }
            )
    faster = []
    for pair in pairs:
        best = fastest(pair, 5)
        faster.append(pair[min(best, key=best.get)])

    def run() -> None:
        for product in faster:
            product()

    return run


@pytest.mark.parametrize("m", [792, 42])
def test_a_step_against_its_products(m: int, record) -> None:
    widths = (INPUTS, N, m, N, m, N, 2)
    problem = Problem(torch.rand(INPUTS, BATCH), torch.rand(2, BATCH))
    scales = [1 / a**0.5 for a in widths[:-1]]
    state = initialise(widths, (1.0,) * 6, [0])

    def train() -> None:
        sgd(
            problem,
            state,
            scales,
            seeds=[0],
            step_size=1e-6,
            steps=state.step + STEPS,
            batch_size=BATCH,
        )

    flops = (
        2
        * BATCH
        * (3 * sum(a * b for a, b in zip(widths, widths[1:], strict=False)) - widths[0] * widths[1])
    )  # nothing flows back to the inputs
    large, operations = gemm(torch.float32, STEPS * flops)
    best = fastest({"step": train, "products": products(widths), "large": large}, ROUNDS)
    step = best["step"] / STEPS
    record(
        f"training speed, m = {m}",
        {
            "milliseconds": 1e3 * step,
            "share of its products": best["products"] / step,
            "share of a large product": flops / step * best["large"] / operations,
        },
    )
