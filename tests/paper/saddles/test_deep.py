"""Exponents of deep nets, and the controls that must fail."""

import pytest
import torch

from learning_dynamics.problems import Problem
from learning_dynamics.saddles.deep_nets import (
    layers_in_turn,
    layerwise_descent,
    limit_of_first_layer,
)
from paper.saddles.deep import escape, pairs


def test_the_direction_comes_later_than_rank_one():
    linear = escape.run(escape.Config().quick())
    assert (abs(linear.early_power - linear.predicted) <= 5e-4 + 2 * linear.error).all()
    assert abs(linear.early_power.where(linear.tied == 1)).max() < 5e-4
    # Negative control: with generic inputs the direction turns before the escape.
    turned = linear.where(linear.turns == 1, drop=True)
    assert abs(turned.late_power - turned.predicted).max() > 0.1
    # The powers of epsilon are far from those of rank one, which it reaches meanwhile.
    assert linear.early_power.max() < 0.9 and abs(linear.ratio_power - 1).max() < 1e-3


def test_a_pair_of_layers_aligns_as_two_layers_do():
    found = pairs.run(pairs.Config().quick())
    miss = abs(found.alignment - found.alignment_predicted)
    assert (miss <= 0.005 + 5 * found.error).all() and miss.median() < 2e-3


def test_the_limit_of_one_layer_alone_is_where_a_run_ends():
    one = escape.draw(3, 9, 8)
    start, options = tuple(w[None] for w in one.start), {"order": (0,), "tolerance": 1e-9}
    end = layers_in_turn(start, one.problem, step_size=0.7, most_steps=2000, **options).final[0]
    assert torch.allclose(end, limit_of_first_layer(start, one.problem.moments()), atol=1e-6)
    assert not torch.allclose(end, start[0], atol=0.1)


@pytest.mark.parametrize(("schedule", "delay"), [("cyclic", 0), ("simultaneous", 1)])
def test_simultaneous_steps_pay_a_logarithm_and_sweeps_do_not(schedule, delay):
    # Balanced scalars of depth 3, x = y = 1: 1/(eta epsilon) sweeps, and log(1/epsilon).
    scales, one = torch.tensor([0.1, 0.002], dtype=torch.float64), torch.ones(1, 1).double()
    start, options = (scales.reshape(-1, 1, 1),) * 3, {"sweeps": 3000, "schedule": schedule}
    run = layerwise_descent(start, Problem(one, one), step_size=0.2, stop_loss=0.475, **options)
    first, second = (run.stopped_at - 5 / scales).tolist()
    assert second - first == pytest.approx(delay * 3.912, abs=1)
