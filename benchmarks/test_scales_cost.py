"""What Part II's tools cost beside plain torch.nn: a training step, and a coordinate check.

    python -m pytest benchmarks/test_scales_cost.py

Six-layer net of widths 256 to 2048, batch 64, float32: ratios of the fastest repeats.
"""

from collections.abc import Callable

import torch
from torch import nn

from learning_dynamics.losses import squared
from learning_dynamics.runtime import generator
from learning_dynamics.scales.first_step import first_step
from learning_dynamics.scales.network import MLP
from learning_dynamics.scales.parametrizations import scheme
from timing import fastest

WIDTHS = (256, 2048, 256, 2048, 512, 2048, 10)
BATCH, ROUNDS = 64, 60


def plain() -> nn.Sequential:
    layers: list[nn.Module] = []
    for m, n in zip(WIDTHS[:-1], WIDTHS[1:], strict=True):
        layers += [nn.Linear(m, n, bias=False), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def trainer(model: nn.Module, groups) -> Callable[[], None]:
    x = torch.randn(BATCH, WIDTHS[0], generator=generator("x"))
    y = torch.randn(BATCH, WIDTHS[-1], generator=generator("y"))
    optimizer = torch.optim.SGD(groups)

    def step() -> None:
        optimizer.zero_grad()
        loss = 0.5 * (model(x) - y).square().sum(-1).mean()
        loss.backward()
        optimizer.step()

    return step


def test_a_training_step_costs_what_plain_torch_costs(record):
    theirs = plain()
    ours = MLP(scheme("dp(1/2)")(WIDTHS), generator=generator("w"))
    rate = 1e-6  # the same floats all along: no denormals, no divergence
    best = fastest(
        {
            "ours": trainer(ours, ours.parameter_groups(rate)),
            "plain": trainer(theirs, [{"params": [w], "lr": rate} for w in theirs.parameters()]),
        },
        ROUNDS,
    )
    cost = best["ours"] / best["plain"]
    record("training step", {"ratio": cost})
    assert cost <= 1.05


def test_a_coordinate_check_costs_at_most_half_more_than_its_bare_steps(record):
    """Bare: one training step and one more forward pass, in plain torch.nn.

    The check measures all probes of one scheme. The spectral norms of the initial weights are a
    property of the draw that all schemes share; the time without them is recorded beside.
    """
    p = scheme("dp(1/2)")(WIDTHS)
    ours, theirs = MLP(p, generator=generator("w")), plain()
    x = torch.randn(BATCH, WIDTHS[0], generator=generator("x"))
    y = torch.randn(BATCH, WIDTHS[-1], generator=generator("y"))
    step = trainer(theirs, [{"params": list(theirs.parameters()), "lr": 1e-6}])
    weights = [w.detach() for w in ours.weights]
    loss, known = squared(), [torch.ones(())] * p.depth

    def bare() -> None:
        step()
        with torch.no_grad():
            theirs(x)

    def check(norms=None) -> None:
        first_step(weights, p, x.mT, lambda f: loss.gradient(f, y.mT), step_size=0.1, norms=norms)

    best = fastest({"check": lambda: check(known), "with norms": check, "bare": bare}, ROUNDS)
    cost = best["with norms"] / best["bare"]
    record(
        "coordinate check", {"ratio": cost, "without spectral norms": best["check"] / best["bare"]}
    )
    assert cost <= 1.5
