"""What Part II's tools cost beside plain torch.nn: a training step, and a coordinate check.

    python -m pytest benchmarks/test_scales_cost.py

Six-layer net of widths 256 to 2048, batch 64, float32. Times are interleaved, so that a busy
machine slows both sides alike; medians are compared.
"""

import statistics
import time
from collections.abc import Callable

import pytest
import torch
from torch import nn

from learning_dynamics.losses import squared
from learning_dynamics.runtime import generator
from learning_dynamics.scales.first_step import first_step
from learning_dynamics.scales.network import MLP
from learning_dynamics.scales.parametrizations import scheme

pytestmark = pytest.mark.usefixtures("one_thread")

WIDTHS = (256, 2048, 256, 2048, 512, 2048, 10)
BATCH = 64


def plain() -> nn.Sequential:
    layers: list[nn.Module] = []
    for m, n in zip(WIDTHS[:-1], WIDTHS[1:], strict=True):
        layers += [nn.Linear(m, n, bias=False), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def interleaved(
    jobs: dict[str, Callable[[], object]], rounds: int = 40
) -> dict[str, list[float]]:
    """Processor times of each job, taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for k in range(rounds + 3):
        for name, job in jobs.items():
            start = time.process_time()
            job()
            if k >= 3:
                times[name].append(time.process_time() - start)
    return times


def median_ratio(times: dict[str, list[float]], a: str, b: str) -> float:
    return statistics.median(times[a]) / statistics.median(times[b])


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
    times = interleaved({
        "ours": trainer(ours, ours.parameter_groups(rate)),
        "plain": trainer(theirs, [
            {"params": [w], "lr": rate} for w in theirs.parameters()
        ]),
    })
    ratio = median_ratio(times, "ours", "plain")
    record("training step", {"ratio": ratio})
    assert ratio <= 1.05


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
        first_step(
            weights, p, x.mT, lambda f: loss.gradient(f, y.mT), step_size=0.1, norms=norms
        )

    times = interleaved(
        {"check": lambda: check(known), "with norms": check, "bare": bare}, rounds=20
    )
    ratio = median_ratio(times, "with norms", "bare")
    record("coordinate check", {
        "ratio": ratio, "without spectral norms": median_ratio(times, "check", "bare"),
    })
    assert ratio <= 1.5
