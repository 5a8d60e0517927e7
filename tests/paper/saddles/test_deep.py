"""Exponents of deep nets, and the controls that must fail."""

import pytest
import torch

from learning_dynamics.saddles.deep_nets import layers_in_turn, limit_of_first_layer
from paper.saddles.deep import escape, pairs
from paper.saddles.deep.scalars import scalar_escape

QUICK = escape.Config().quick()


@pytest.fixture(scope="module")
def linear():
    return escape.run(QUICK)


def test_the_plateau_lasts_a_power_of_epsilon(linear):
    assert abs(linear.time_power + linear.depth - 2).max() < 1e-3


def test_every_layer_is_as_close_to_rank_one_as_epsilon(linear):
    assert abs(linear.ratio_power - 1).max() < 1e-3


def test_the_direction_comes_later_than_rank_one(linear):
    miss = abs(linear.early_power - linear.predicted)
    assert (miss <= 5e-4 + 2 * linear.error).all()
    assert abs(linear.early_power.where(linear.tied == 1)).max() < 5e-4
    straight = linear.where(linear.turns == 0, drop=True)
    assert abs(straight.late_power - straight.predicted).max() < 2e-3
    # Negative control: with generic inputs the direction turns before the escape.
    turned = linear.where(linear.turns == 1, drop=True)
    assert abs(turned.late_power - turned.predicted).max() > 0.1
    # Whatever |W| = epsilon/size hides: the powers of epsilon are far from those of rank one.
    assert linear.predicted.min() == 0 and linear.early_power.max() < 0.9


def test_steps_that_stay_large_have_the_finite_step_exponent():
    found = escape.scaled_steps(QUICK)
    assert abs(found.measured - found.finite).max() < 2e-3
    assert abs(found.measured - found.flow).max() > 0.03


def test_a_pair_of_layers_aligns_as_two_layers_do():
    found = pairs.run(pairs.Config().quick())
    miss = abs(found.alignment - found.alignment_predicted)
    assert (miss <= 0.005 + 5 * found.error).all() and miss.median() < 2e-3
    assert abs(found.length / found.length_predicted - 1).max() < 0.01


def test_pairs_in_turn_are_the_whole_net():
    found = pairs.pairs_in_turn(pairs.Config().quick())
    assert abs(found.ratio_power - 1).max() < 1e-3
    assert abs(found.astray_power - found.predicted).max() < 1e-3


def test_the_limit_of_one_layer_alone_is_where_a_run_ends():
    one = escape.draw(3, 9, 8)
    start = tuple(w[None] for w in one.start)
    end = layers_in_turn(
        start, one.problem, step_size=0.7, most_steps=2000, order=(0,), tolerance=1e-9
    )
    limit = limit_of_first_layer(start, one.problem.moments())
    assert torch.allclose(end.final[0], limit, atol=1e-6)
    assert not torch.allclose(end.final[0], start[0], atol=0.1)


def test_simultaneous_steps_pay_a_logarithm_and_sweeps_do_not():
    def offset(n, schedule):
        return scalar_escape(10.0**-n, schedule=schedule) - 5 * 10**n

    assert abs(offset(4, "cyclic") - offset(1, "cyclic")) <= 1
    late = offset(4, "simultaneous") - offset(1, "simultaneous")
    assert late == pytest.approx(3 * 2.302585, abs=1)
