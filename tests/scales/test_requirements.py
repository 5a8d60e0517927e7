"""Utsunomiya's thesis's derivation as a computation: what its requirements admit, precise and as printed."""

import random
from fractions import Fraction as F

import pytest

from learning_dynamics.scales.parametrizations import dynamic, scheme
from learning_dynamics.scales.requirements import PRINTED, THESIS, solve_requirements

BOTTLENECKS = (0, 1, "1/5", 1, "1/5", 1, 0)


def member(family, scheme) -> bool:
    e = scheme.exponents(family.widths)
    return family.contains(e.multipliers, e.init_stds)


def random_patterns() -> list[tuple[F, ...]]:
    draw = random.Random(7)

    def hidden():
        return (F(draw.randint(1, 9), draw.randint(1, 4)) for _ in range(draw.randint(1, 5)))

    return [(F(0), *hidden(), F(0)) for _ in range(12)]


@pytest.mark.parametrize("widths", [BOTTLENECKS, *random_patterns()])
def test_precise_requirements_return_exactly_dp(widths):
    (family,) = solve_requirements(widths)
    assert family.dimension == 1
    low, high = family.richness()
    assert (low.value, high.value) == (F(0), F(1, 2))
    # every member is DP(r): sigma_l = sigma_1, and g_l as in the definition
    for r in (F(0), F(1, 7), F(1, 2), F(-1, 10), F(3, 5)):
        assert member(family, dynamic(r, any_r=True)) == (0 <= r <= F(1, 2))
    depth, (free,) = len(widths) - 1, family.free
    assert free == depth + 1  # S_1 = -r alpha_min parametrizes the family
    for k in range(1, depth + 1):
        assert family.init_std(k)[free] == 1 and family.init_std(k)[0] == 0
        assert family.multiplier(k)[free] == (-1 if k < depth else 0)
        assert family.multiplier(k)[0] == -family.widths[k - 1] / 2


def test_each_bound_names_its_requirement():
    (family,) = solve_requirements(BOTTLENECKS)
    low, high = family.richness()
    assert low.because == {("the initial output does not diverge", 6)}
    ((name, layer),) = high.because
    assert name == "backward, the update does not outweigh the weights"
    assert layer in (2, 4)  # a bottleneck


def test_bounds_disappear_with_their_requirement():
    common = ("forward", "own contribution")
    (family,) = solve_requirements(BOTTLENECKS, (*common, "gradient"))
    assert family.richness()[0] is None and family.richness()[1].value == F(1, 2)
    (family,) = solve_requirements(BOTTLENECKS, (*common, "output"))
    assert family.richness()[0].value == 0 and family.richness()[1] is None


def test_printed_forward_condition_on_the_output_leaves_ntk_alone():
    asked = ("forward everywhere", "own contribution", "gradient")
    (family,) = solve_requirements(BOTTLENECKS, asked)
    assert family.dimension == 0 and member(family, scheme("ntk"))


def test_total_contribution_lets_layers_sleep():
    asked = ("forward", "total contribution", "gradient", "output")
    (family,) = solve_requirements(BOTTLENECKS, asked)
    e = dynamic("1/2").exponents(BOTTLENECKS)
    assert family.dimension == 6 and family.contains(e.multipliers, e.init_stds)
    assert family.richness()[1] is None
    # layer 3 may learn arbitrarily slowly
    lazy, slow = list(e.init_stds), list(e.multipliers)
    lazy[2], slow[2] = lazy[2] + 5, slow[2] - 5
    assert family.contains(slow, lazy)


def test_equal_norms_contradict_the_forward_condition_at_an_expansion():
    assert solve_requirements(BOTTLENECKS, ("forward", "equal norms")) == []
    # A funnel is fine, and so are equal widths.
    assert solve_requirements((0, 1, "3/4", "1/2", 0), ("forward", "equal norms"))
    assert solve_requirements((0, 1, 1, 1, 0), (*THESIS, "equal norms"))


def test_printed_requirements_leave_lazy_solutions_for_a_mild_bottleneck_only():
    assert solve_requirements(BOTTLENECKS, PRINTED) == []  # the thesis's pattern
    families = solve_requirements((0, 1, "3/4", 1, 0), PRINTED)
    assert families
    for family in families:
        low, high = family.richness()
        assert (low.value, high.value) == (0, 0)


def test_spectral_is_no_solution_at_initialisation():
    for widths, holds in ((BOTTLENECKS, False), ((0, 1, 1, 1, 0), True)):
        (family,) = solve_requirements(widths)
        assert member(family, scheme("spectral")) == holds
