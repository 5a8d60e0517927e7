"""Degenerate data: what theory says of them is what gradient descent does with them."""

import math

import pytest
import torch

from learning_dynamics.problems import Moments, Problem, linear_teacher, random_orthogonal
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.linear_nets.modes import follow_modes, stack_moments
from learning_dynamics.saddles.theory.stages import arrival_rate, crossing_steps
from learning_dynamics.saddles.theory.staircase import (
    independent_blocks,
    levels,
    predict_staircase,
    rank_k_map,
    residual_correlation,
    visited_map,
)
from learning_dynamics.saddles.two_layer import initialise


def stream(*name):
    return generator("degenerate", *name)


def blocks_problem(seed, turned=False):
    """Three independent problems of 2 inputs and 2 outputs; in turned coordinates, if asked."""
    g = stream("blocks", seed)
    xx, yx = [], []
    for strengths in ((3.0, 1.4), (2.2, 1.0), (1.7, 0.8)):
        root = torch.eye(2) + 0.8 * torch.rand(2, 2, generator=g, dtype=torch.float64)
        xx.append(root @ root.mT)
        left, right = (random_orthogonal(2, g) for _ in range(2))
        yx.append(left * torch.tensor(strengths) @ right)
    x, c = torch.block_diag(*xx), torch.block_diag(*yx)
    if turned:
        turn, back = (random_orthogonal(6, g) for _ in range(2))
        x, c = turn @ x @ turn.mT, back @ c @ turn.mT
    return Moments(x, c, c @ torch.linalg.inv(x) @ c.mT + 0.1 * torch.eye(6))


@pytest.mark.parametrize("seed", range(6))
def test_independent_blocks_take_turns(seed):
    moments, scale = blocks_problem(seed), 1e-30
    eta = 0.3 / float(torch.linalg.svdvals(moments.yx)[0] + torch.linalg.eigvalsh(moments.xx)[-1])
    stairs = predict_staircase(moments, eta)
    steps = stairs.drop_steps(scale)
    start = initialise((6, 12, 6), scale, [stream("start", seed)]).units
    last = int(1.1 * steps[-1])
    run = follow_modes(stack_moments([moments]), start, step_size=eta, steps=last, keep=("modes",))
    levels_between = (stairs.levels[1:] + stairs.levels[:-1]) / 2
    drops = crossing_steps(run.losses, levels_between[None], run.steps)[0]
    # Constants of order one in the size of a mode are worth log(10)/log(1/epsilon) of its time.
    torch.testing.assert_close(drops, steps, rtol=math.log(10) / math.log(1 / scale), atol=0)
    # The loss rests at each predicted level in the middle between two drops that are apart.
    for k in range(5):
        if steps[k + 1] > 1.1 * steps[k]:
            middle = run.losses[0, int(steps[k : k + 2].mean()) // 2]
            assert float(middle) == pytest.approx(float(stairs.levels[k + 1]), rel=1e-2)


def test_blocks_are_seen_in_turned_coordinates():
    for seed in range(6):
        one, two = (blocks_problem(seed, turned) for turned in (False, True))
        found = independent_blocks(two.xx, two.yx)
        assert sorted(block.shape[1] for block in found) == [2, 2, 2]
        a, b = (predict_staircase(moments, 0.05) for moments in (one, two))
        for name in ("levels", "times", "exponents"):
            torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-6, atol=1e-9)


def test_blocks_are_not_learned_by_gain():
    # Block 1 gains most but escapes last: its inputs are small.
    xx = torch.block_diag(0.01 * torch.eye(2), torch.tensor([[2.0, 0.9], [0.9, 1.0]])).double()
    yx = torch.diag(torch.tensor([0.3, 0.2, 1.5, 0.8], dtype=torch.float64))
    moments = Moments(xx, yx, yx @ torch.linalg.inv(xx) @ yx.mT)
    assert float(levels(moments)[1]) > float(rank_k_loss(moments, 1)) + 1


def rank_k_loss(moments, k):
    w = rank_k_map(moments, k)
    inner = moments.yy - 2 * w @ moments.yx.mT + w @ moments.xx @ w.mT
    return 0.5 * inner.trace()


@pytest.mark.parametrize("size", [1.0, 1e3, 1e6])
def test_a_large_feature_hides_no_link(size):
    xx = torch.block_diag(torch.tensor([[size**2]]), torch.tensor([[2.0, 0.5], [0.5, 1.0]]))
    yx = torch.block_diag(torch.tensor([[size]]), torch.tensor([[1.5, 0.3], [0.1, 0.7]]))
    found = independent_blocks(xx.double(), yx.double())
    assert sorted(b.shape[1] for b in found) == [1, 2]


def degenerate():
    g = stream("problems")
    x, y = (torch.randn(m, 7, generator=g, dtype=torch.float64) for m in (5, 3))
    yield "fewer samples than inputs", Problem(x[:, :3], y[:, :3])
    yield "one sample", Problem(x[:, :1], y[:, :1])
    yield "an input that is zero", Problem(torch.cat([x[:2], 0 * x[:1]]), y)
    yield "the same input twice", Problem(torch.cat([x[:3], x[:1]]), y)
    yield "the same sample twice", Problem(torch.cat([x[:2], x[:2]], 1), torch.cat([y, y], 1))
    yield "an output that is zero", Problem(x, torch.cat([y[:2], 0 * y[:1]]))
    yield "an input a thousand times larger", Problem(torch.cat([x[:1] * 1e3, x[1:3]]), y)


@pytest.mark.parametrize("name,problem", [pytest.param(*case, id=case[0]) for case in degenerate()])
def test_degenerate_data_have_levels_rates_and_arrivals(name, problem):
    moments = problem.moments()
    found = levels(moments)
    x, y = problem.inputs, problem.targets
    best = y @ torch.linalg.pinv(x)
    total = 0.5 * y.square().sum(0).mean()
    least = 0.5 * (y - best @ x).square().sum(0).mean()
    assert float(found[0]) == pytest.approx(float(total))
    assert float(found[-1]) == pytest.approx(float(least), abs=1e-10 * float(total))
    assert (found >= 0).all() and (found.diff() <= 1e-12 * total).all()
    torch.testing.assert_close(rank_k_map(moments, min(moments.yx.shape)), best)
    rank = int(torch.linalg.matrix_rank(best @ x))
    for k in range(1, rank + 1):
        assert float(arrival_rate(moments, k)) > 1e-6  # not a direction that changes nothing
    with pytest.raises(ValueError, match=f"k = {rank + 1}"):
        arrival_rate(moments, rank + 1)
    stairs = predict_staircase(moments, 1e-8)
    assert stairs.times[:rank].isfinite().all() and stairs.times[rank:].isinf().all()


def test_an_input_that_is_always_zero_changes_nothing():
    problem = linear_teacher(generator=stream("zero"), noise=0.2)
    more = Problem(torch.cat([problem.inputs, 0 * problem.inputs[:2]]), problem.targets)
    one, two = problem.moments(), more.moments()
    torch.testing.assert_close(levels(one), levels(two))
    for k in range(1, 5):
        a, b = (float(arrival_rate(m, k)) for m in (one, two))
        assert a == pytest.approx(b, rel=1e-9)
        padded = torch.nn.functional.pad(residual_correlation(one, k), (0, 2))
        torch.testing.assert_close(padded, residual_correlation(two, k))


def test_features_in_any_unit_have_the_same_levels():
    moments = linear_teacher(generator=stream("units"), noise=0.2).moments()
    unit = torch.logspace(-6, 6, 6, dtype=torch.float64)
    scaled = Moments(moments.xx * unit * unit[:, None], moments.yx * unit, moments.yy)
    torch.testing.assert_close(levels(moments), levels(scaled), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(rank_k_map(moments, 2), rank_k_map(scaled, 2) * unit)


def test_modes_at_rest_and_ties_have_their_exponents():
    eye, s = torch.eye(3, dtype=torch.float64), torch.tensor([2.0, 1.0, 0.0]).double()
    # A square task of rank two: at drop 2 the next mode is one at rest, not one that shrinks.
    low = predict_staircase(Moments(eye, torch.diag(s), torch.diag(s**2)), 0.1)
    assert low.exponents[1] == 1
    tied = torch.diag(torch.tensor([2.0, 2.0, 1.0]).double())
    found = predict_staircase(Moments(eye, tied, tied @ tied), 0.1)
    assert found.exponents[0] == 0 and found.times[0] == found.times[1] < found.times[2]
    nothing = predict_staircase(Moments(eye, 0 * eye, 0 * eye), 0.1)
    assert (nothing.sharpness == 0).all() and not nothing.beyond.any()
    assert nothing.times.isinf().all()


def test_the_visited_map_of_commuting_inputs_is_that_of_the_first_to_escape():
    # The weaker correlation has the larger gain: the best map of rank 1 is not visited.
    s, gain = torch.tensor([2.4, 1.5]).double(), torch.tensor([1.44, 4.5]).double()
    moments = Moments(torch.diag(s**2 / gain), torch.diag(s), torch.diag(gain))
    visited = visited_map(moments, 1, 0.1)
    torch.testing.assert_close(visited, torch.diag(torch.tensor([2.4 * 1.44 / 2.4**2, 0]).double()))
    assert not torch.allclose(visited, rank_k_map(moments, 1))
