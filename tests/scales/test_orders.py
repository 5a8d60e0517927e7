"""The exponent calculus: its arithmetic, and the table of background exponents entry by entry."""

import random
from fractions import Fraction as F
from functools import cache

import pytest

from learning_dynamics.scales.orders import QUANTITIES, Order, maximum, predict_exponents
from learning_dynamics.scales.parametrizations import SCHEMES, dynamic, scheme
from tables import table


def thesis(a: F) -> tuple[F, ...]:
    """n_1 = n_3 = n_5 = n, n_2 = n_4 = n^a."""
    return (F(0), F(1), a, F(1), a, F(1), F(0))


TABLE = table("exponents")


@cache
def predicted(name, a, r):
    s = dynamic(r) if name == "dp" else scheme(name)
    return predict_exponents(s.exponents(thesis(a)))


@pytest.mark.parametrize("r", [F(0), F(1, 4), F(1, 2)])
@pytest.mark.parametrize("a", [F(1, 5), F(1, 2), F(9, 10)])
@pytest.mark.parametrize("quantity", TABLE)
def test_hand_derived_table(quantity, a, r):
    known = {"a": a, "b": (1 - a) / 2, "h": F(1, 2), "r": r}
    for name, formulas in TABLE[quantity].items():
        wanted = [eval(str(formula), known.copy()) for formula in formulas]
        assert list(predicted(name, a, r)[quantity]) == wanted, name


@pytest.mark.parametrize("bottlenecks", [1, 2, 3])
def test_spectral_loses_one_factor_per_bottleneck(bottlenecks):
    a = F(1, 5)
    widths = (0, 1, *[a, 1] * bottlenecks, 0)
    found = predict_exponents(scheme("spectral").exponents(widths))
    assert set(found["own_contribution"]) == {bottlenecks * (a - 1)}


def test_equal_widths_make_mup_move_every_neuron_by_order_one():
    for name in ("mup-wide", "mup-fan-in", "mup-package", "spectral", "dp(1/2)"):
        found = predict_exponents(scheme(name).exponents((0, 1, 1, 1, 1, 0)))
        assert set(found["change_rms"]) == {F(0)}, name
    found = predict_exponents(scheme("ntk").exponents((0, 1, 1, 1, 0)))
    assert set(found["change_rms"][:-1]) == {F(-1, 2)}


@pytest.mark.parametrize("name", list(SCHEMES))
def test_identities_between_quantities(name):
    e = scheme(name).exponents((0, 2, 1, 2, "3/2", 1, 0))
    found = predict_exponents(e)
    assert set(found) == set(QUANTITIES)
    for k in range(6):
        own = found["own_contribution"][k]
        assert own == found["backward_norm"][k] + found["own_change_norm"][k]
        assert own == e.learning_rates[k] + 2 * found["gradient_norm"][k]
        assert found["contribution"][k] == max(found["own_contribution"][: k + 1])
        assert found["cosine"][k] <= 0  # Cauchy-Schwarz
        # layer balance: eta_l E[f^2]/sigma_l^2 for every layer
        balance = 2 * found["preactivation_rms"][-1] - 2 * e.init_stds[k] + e.learning_rates[k]
        assert own == balance


def test_residual_enters_backward_quantities_only():
    e = scheme("dp(1/2)").exponents((0, 1, 1, 0))
    one, two = predict_exponents(e), predict_exponents(e, residual=F(1, 2))
    assert one["preactivation_rms"] == two["preactivation_rms"]
    assert [v + F(1, 2) for v in one["backward_norm"]] == list(two["backward_norm"])
    assert [v + 1 for v in one["own_contribution"]] == list(two["own_contribution"])
    assert one["cosine"] == two["cosine"]


def test_arithmetic_of_orders():
    x, y, two = Order.unknown(1, 2), Order.unknown(2, 2), Order.constant(2, 2)
    assert set((maximum(x, y) + x).forms) == {(0, 2, 0), (0, 1, 1)}
    assert maximum(x, x + two) == x + two  # x + 2 is always the larger
    with pytest.raises(ValueError, match="not a maximum"):
        x - maximum(x, y)
    with pytest.raises(ValueError, match="unknown exponents"):
        _ = x.value


def test_dp_moves_a_neuron_by_the_narrowest_width_so_far():
    """RMS of the total change under DP(r): n_min^r (min_{k <= l} n_k)^(-1/2), on random patterns.

    The shorter rule n_min^(r - 1/2) holds from the narrowest layer on only.
    """
    draw, shorter = random.Random("change"), 0
    for _ in range(100):
        hidden = [F(draw.randint(1, 8), 8) for _ in range(draw.randint(2, 6))]
        r = draw.choice((F(0), F(1, 8), F(1, 4), F(1, 2)))
        found = predict_exponents(dynamic(str(r)).exponents((F(0), *hidden, F(0))))["change_rms"]
        for k in range(len(hidden)):
            assert found[k] == r * min(hidden) - min(hidden[: k + 1]) / 2
            shorter += found[k] == (r - F(1, 2)) * min(hidden)
    assert 0 < shorter < 300
