"""Gains by layer, rates of biases, and activations that the orders do not cover."""

import pytest
import torch

from learning_dynamics import scales
from learning_dynamics.activations import ACTIVATIONS
from learning_dynamics.scales.first_step import first_step
from paper.scales.how_to_use.gains import rms

MIXED = ["relu", "linear", "tanh", "relu", "gelu", "linear", "linear", "tanh", "relu", "gelu"]
WIDTHS = scales.WidthFamily((0, 1, "1/2", 1, 0), (8, 1, 4, 1, 1))


def test_gain_belongs_to_the_activation_that_feeds_the_layer():
    right = scales.gains(MIXED)
    assert abs(rms(MIXED, right, 0, 100) - 1).max() < 0.1
    feeding_the_next = (*right[1:], 1.0)
    assert abs(rms(MIXED, feeding_the_next, 0, 100) - 1).max() > 0.3


def test_one_gaussian_vector_stands_for_a_gaussian_matrix():
    """`rms` draws no matrices; the forward pass with matrices gives the same numbers."""
    gammas = (0.8, *scales.gains(MIXED)[1:])
    p = scales.scheme("dp(1/2)")((16, *[300] * len(MIXED), 1), gammas)
    g = torch.Generator().manual_seed(0)
    w = [torch.randn(12, a, b, generator=g) for b, a in zip(p.widths, p.widths[1:], strict=False)]
    step = first_step(
        w, p, torch.ones(16, 1), torch.ones_like, activation=MIXED, drawn=True,
        norms=[torch.ones(())] * p.depth,
    )  # fmt: skip
    seen = step["preactivation_rms"].square().mean(0).sqrt()[:-1]
    assert torch.allclose(seen, rms(MIXED, gammas, 1, 200), atol=0.08)


@pytest.mark.parametrize("name", ["sigmoid", "square"])
def test_vanishing_signals_and_an_offset_are_refused(name):
    psi = ACTIVATIONS[name]
    with pytest.raises(ValueError, match=rf"{name}: psi\(0\).*spectral"):
        scales.exponent_check(["ntk", "spectral"], WIDTHS, [16, 32], runs=2, activation=psi)
    scales.exponent_check(["ntk", "dp(1/2)"], WIDTHS, [16, 32], runs=2, activation=psi)
    scales.exponent_check(["spectral"], WIDTHS, [16, 32], runs=2, activation="tanh")


def test_gains_of_no_use_are_refused():
    with pytest.raises(ValueError, match="mean square"):
        scales.gains([lambda z: 0 * z])
    with pytest.raises(ValueError, match="gains: 2 values"):
        scales.scheme("ntk")((4, 8, 8, 2), (1.0, 1.0))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_biases_alone_are_slowed_and_keep_their_decay(optimizer):
    def build(n):
        return torch.nn.Sequential(torch.nn.Linear(4, n), torch.nn.ReLU(), torch.nn.Linear(n, 2))

    scaled = scales.parametrize(build, 16, 8, "dp(1/2)", optimizer)
    before, after = (
        {id(p): g for g in scaled.param_groups(0.1, 0.3, biases=b) for p in g["params"]}
        for b in (1.0, 0.25)
    )
    for p in scaled.model.parameters():
        was, now = before[id(p)], after[id(p)]
        assert now["lr"] == was["lr"] * (0.25 if p.ndim == 1 else 1)
        power = (
            0 if optimizer == "sgd" else 1
        )  # a penalty stays, a decoupled decay is rate times it
        kept = [g["lr"] ** power * g["weight_decay"] for g in (was, now)]
        assert kept[0] == pytest.approx(kept[1], rel=1e-12)
    attention = scales.parametrize(
        lambda n: torch.nn.Sequential(
            torch.nn.MultiheadAttention(n, n // 4, add_bias_kv=True), torch.nn.Linear(n, 2)
        ),
        16, 8, "dp(1/2)", optimizer,
    )  # fmt: skip
    rates = {id(p): g["lr"] for g in attention.param_groups(1.0, 0.0) for p in g["params"]}
    for group in attention.param_groups(1.0, 0.0, biases=0.25):
        for p in group["params"]:
            name = next(n for n, q in attention.model.named_parameters() if q is p)
            assert group["lr"] == rates[id(p)] * (0.25 if "bias" in name else 1), name
    with pytest.raises(ValueError, match="biases = 0"):
        scaled.param_groups(0.1, 0.3, biases=0.0)
