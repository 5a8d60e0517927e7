"""Schemes: their numbers, their exact equivalences, and where these end."""

import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from learning_dynamics.runtime import generator
from learning_dynamics.scales.network import MLP
from learning_dynamics.scales.parametrizations import SCHEMES, dynamic, mup, scheme

ALTERNATING = (12, 40, 10, 40, 10, 40, 1)
EVERY_SCHEME = [*SCHEMES, "dp(1/4)"]


def losses_of_training(p, *, activation="relu", step_size=0.1, output_scale=1.0):
    """Losses of 20 steps of full-batch SGD on a fixed random problem, in float64."""
    g = generator("problem")
    x, y = (torch.randn(16, n, generator=g, dtype=torch.float64) for n in p.widths[:: p.depth])
    model = MLP(p, activation, generator=generator("run"), dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameter_groups(step_size))
    losses = []
    for _ in range(20):
        loss = 0.5 * (output_scale * model(x) - y).square().sum(-1).mean()
        losses.append(loss.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return torch.stack(losses)


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest relative difference of two loss curves."""
    return float(((a - b) / b).abs().max())


@pytest.mark.parametrize("name", EVERY_SCHEME)
def test_abc_symmetry_gives_the_same_run(name):
    p = scheme(name)(ALTERNATING)
    step_size = 1e-3 if name == "standard" else 0.1
    other = p.rescaled([0.3, 2.0, 5.0, 0.7, 1.5, 0.2])
    a, b = (losses_of_training(q, step_size=step_size) for q in (p, other))
    assert gap(a, b) <= 1e-10
    assert gap(a[:1], a[1:]) > 1e-3  # the run does move


def test_regauge_gives_the_same_run_for_relu_and_not_for_tanh():
    p = dynamic("1/2")(ALTERNATING)
    c = (1.0, 0.5, 3.0, 2.0, 0.25, 1.7, 1.0)  # g_l -> g_l c_l/c_{l-1}
    multipliers = (g * b / a for g, a, b in zip(p.multipliers, c, c[1:], strict=False))
    other = replace(p, multipliers=tuple(multipliers))
    assert gap(losses_of_training(p), losses_of_training(other)) <= 1e-10
    tanh = [losses_of_training(q, activation="tanh") for q in (p, other)]
    assert gap(*tanh) > 1e-2


@pytest.mark.parametrize("name", EVERY_SCHEME)
def test_gauges_with_unit_multipliers_and_unit_rates(name):
    p = scheme(name)(ALTERNATING)
    one, other = p.with_unit_multipliers(), p.with_unit_learning_rates()
    assert one.multipliers == pytest.approx((1.0,) * 6)
    assert other.learning_rates == pytest.approx((1.0,) * 6)
    assert one.effective_learning_rates == pytest.approx(other.effective_learning_rates)


@pytest.mark.parametrize("outputs", [1, 3])
def test_spectral_is_wide_mup_up_to_the_root_of_the_output_width(outputs):
    widths = (*ALTERNATING[:-1], outputs)
    wide = losses_of_training(mup("wide")(widths), output_scale=math.sqrt(outputs))
    assert gap(losses_of_training(scheme("spectral")(widths)), wide) <= 1e-12


@pytest.mark.parametrize(
    ("widths", "activation"), [(ALTERNATING, "tanh"), ((12, 40, 10, 10, 40, 1), "relu")]
)
def test_spectral_is_not_wide_mup_for_tanh_or_neighbouring_bottlenecks(widths, activation):
    options = {"activation": activation, "step_size": 0.5}
    runs = [losses_of_training(s(widths), **options) for s in (scheme("spectral"), mup("wide"))]
    assert gap(*runs) > 0.01


def test_equal_widths_make_dp_half_mup_and_every_reading_the_same_run():
    widths = (12, 32, 32, 32, 1)
    half = losses_of_training(dynamic("1/2")(widths))
    for reading in ("wide", "fan-in"):
        assert gap(losses_of_training(mup(reading)(widths)), half) <= 1e-12
    unlike = (losses_of_training(s(ALTERNATING)) for s in (dynamic("1/2"), mup("wide")))
    assert gap(*unlike) > 0.01  # negative control
    # The package counts its rates from a base model: input layer n_0/1, here made explicit.
    package = mup("package")(widths).with_unit_learning_rates()
    fan_in = mup("fan-in")(widths)
    assert package.multipliers == pytest.approx(fan_in.multipliers)
    assert package.init_stds == pytest.approx(fan_in.init_stds)


def test_dp_zero_is_ntk_and_dp_takes_its_minimum_over_hidden_layers():
    p, half = (scheme(name)((2, 40, 10, 40, 1)) for name in ("ntk", "dp(1/2)"))
    assert p.init_stds == (1.0,) * 4
    assert p.multipliers == pytest.approx([n**-0.5 for n in (2, 40, 10, 40)])
    assert scheme("dp(0)").rule([1, 2, 3]) == scheme("ntk").rule([1, 2, 3])
    assert half.init_stds == pytest.approx((10**-0.5,) * 4)  # the narrowest hidden width


@pytest.mark.parametrize("name", EVERY_SCHEME)
def test_exponents_are_the_growth_of_the_numbers(name):
    s = scheme(name)
    exact = s.exponents((0, 2, 1, 2, 0))
    small, large = (s(tuple(n**a for a in (0, 2, 1, 2, 0))) for n in (8, 64))
    for field in ("multipliers", "init_stds", "learning_rates"):
        parts = (getattr(p, field) for p in (exact, small, large))
        for alpha, a, b in zip(*parts, strict=True):
            assert isinstance(alpha, Fraction)
            assert math.log(b / a, 8) == pytest.approx(float(alpha), abs=1e-12)
