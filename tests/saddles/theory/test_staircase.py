"""The staircase, and degenerate data: what theory says of them is what gradient descent does."""

import math

import pytest
import torch

from learning_dynamics.problems import Moments, Problem, linear_teacher, random_orthogonal
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.linear_nets.modes import follow_modes, stack_moments
from learning_dynamics.saddles.theory import staircase
from learning_dynamics.saddles.theory.stages import arrival_rate, crossing_steps
from learning_dynamics.saddles.two_layer import Weights, gradient, initialise


def problem(covariance="generic", seed=0, **options):
    draw = generator("test-staircase", seed)
    return linear_teacher(generator=draw, covariance=covariance, **options)


def at_rank(moments, k):
    """The balanced net (W1, W2) of width 4 at the rank-k saddle."""
    u, s, v = torch.linalg.svd(staircase.rank_k_map(moments, k), full_matrices=False)
    root = torch.where(torch.arange(4) < k, s, 0.0).sqrt()
    return root[:, None] * v, u * root


def test_rank_k_optimum_beats_every_other_map_of_rank_k():
    moments = problem(noise=0.3).moments()
    g = generator("test-staircase", "rivals")
    for k in range(1, 4):
        loss = staircase.rank_k_optimum(moments, k)[1]
        torch.testing.assert_close(loss, staircase.levels(moments)[k], atol=1e-12, rtol=0)
        factors = 0.03 * torch.randn(200, 4 + 6, k, generator=g, dtype=torch.float64)
        right, left = (w[..., :k] for w in (at_rank(moments, k)[0].mT, at_rank(moments, k)[1]))
        other = (left + factors[:, :4]) @ (right + factors[:, 4:]).mT
        inner = moments.yy - 2 * other @ moments.yx.mT + other @ moments.xx @ other.mT
        losses = 0.5 * inner.diagonal(dim1=-2, dim2=-1).sum(-1)
        assert (losses > loss).all()


@pytest.mark.parametrize("covariance", ["generic", "commuting", "isotropic"])
def test_every_visited_saddle_is_stationary(covariance):
    p = problem(covariance, noise=0.3)
    moments, rates = p.moments(), staircase.predict_staircase(p.moments()).rates
    for k in range(5):
        state = gradient(Weights(*at_rank(moments, k)), p)
        assert state.gradients.units.abs().max() < 1e-12
        found = torch.linalg.svdvals(staircase.residual_correlation(moments, k))
        wanted = rates[k] if k < 4 else 0 * rates[0]
        torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)


def test_white_inputs_give_the_textbook_staircase():
    p = problem("isotropic", input_spectrum=(1.0,) * 6, target_spectrum=(3.0, 1.8, 1.0, 0.5))
    found = staircase.predict_staircase(p.moments())
    s = torch.tensor([3.0, 1.8, 1.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(found.times, 1 / s)
    torch.testing.assert_close(found.exponents[:3], 1 - s[1:] / s[:3])
    expected = 0.5 * torch.stack([s[k:].square().sum() for k in range(5)])
    torch.testing.assert_close(found.levels, expected, atol=1e-12, rtol=0)
    finite = staircase.predict_staircase(p.moments(), 0.1)
    torch.testing.assert_close(finite.times, 0.1 / torch.log1p(0.1 * s))
    steps = finite.drop_steps(1e-8)
    torch.testing.assert_close(steps, math.log(1e8) / torch.log1p(0.1 * s))


def test_commuting_inputs_are_learned_by_correlation_not_by_gain():
    # s = lambda * target = (2, 1.8), but the gains are mu = s^2/lambda = (1, 3.24).
    xx = torch.diag(torch.tensor([4.0, 1.0], dtype=torch.float64))
    yx = torch.diag(torch.tensor([2.0, 1.8], dtype=torch.float64))
    moments = Moments(xx, yx, yx @ torch.linalg.inv(xx) @ yx.mT)
    assert len(staircase.independent_blocks(xx, yx)) == 2
    found = staircase.predict_staircase(moments)
    torch.testing.assert_close(found.levels, torch.tensor([2.12, 1.62, 0.0]).double())
    torch.testing.assert_close(found.times, 1 / torch.tensor([2.0, 1.8]).double())
    assert staircase.rank_k_optimum(moments, 1)[1] < 0.6  # GD does not stop there
    visited = staircase.visited_map(moments, 1, 0.1)
    torch.testing.assert_close(visited, torch.diag(torch.tensor([0.5, 0.0]).double()))


@pytest.mark.parametrize("covariance", ["generic", "commuting"])
def test_sharpness_is_the_top_of_the_hessian(covariance):
    moments = problem(covariance, noise=0.3).moments()
    found = staircase.sharpness(moments)

    def loss(parameters):
        w1, w2 = parameters.split((24, 16))
        w = w2.reshape(4, 4) @ w1.reshape(4, 6)
        return 0.5 * torch.trace(w @ moments.xx @ w.mT - 2 * w @ moments.yx.mT)

    for k in range(5):
        saddle = torch.cat([w.flatten() for w in at_rank(moments, k)])
        top = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, saddle))[-1]
        torch.testing.assert_close(found[k], top, rtol=2e-3, atol=0)
    small, large = (staircase.predict_staircase(moments, c / found.max()) for c in (1.9, 2.1))
    assert not small.beyond.any() and large.beyond.any()
    assert not staircase.predict_staircase(moments).beyond.any()


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
    stairs = staircase.predict_staircase(moments, eta)
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
        found = staircase.independent_blocks(two.xx, two.yx)
        assert sorted(block.shape[1] for block in found) == [2, 2, 2]
        a, b = (staircase.predict_staircase(moments, 0.05) for moments in (one, two))
        for name in ("levels", "times", "exponents"):
            torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("size", [1.0, 1e3, 1e6])
def test_a_large_feature_hides_no_link(size):
    xx = torch.block_diag(torch.tensor([[size**2]]), torch.tensor([[2.0, 0.5], [0.5, 1.0]]))
    yx = torch.block_diag(torch.tensor([[size]]), torch.tensor([[1.5, 0.3], [0.1, 0.7]]))
    found = staircase.independent_blocks(xx.double(), yx.double())
    assert sorted(b.shape[1] for b in found) == [1, 2]


STREAM = stream("problems")
X, Y = (torch.randn(m, 7, generator=STREAM, dtype=torch.float64) for m in (5, 3))
DEGENERATE = {
    "fewer samples than inputs": (X[:, :3], Y[:, :3]),
    "one sample": (X[:, :1], Y[:, :1]),
    "an input that is zero": (torch.cat([X[:2], 0 * X[:1]]), Y),
    "the same input twice": (torch.cat([X[:3], X[:1]]), Y),
    "the same sample twice": (torch.cat([X[:2], X[:2]], 1), torch.cat([Y, Y], 1)),
    "an output that is zero": (X, torch.cat([Y[:2], 0 * Y[:1]])),
    "an input a thousand times larger": (torch.cat([X[:1] * 1e3, X[1:3]]), Y),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_data_have_levels_rates_and_arrivals(name):
    x, y = DEGENERATE[name]
    moments = Problem(x, y).moments()
    found = staircase.levels(moments)
    best = y @ torch.linalg.pinv(x)
    total = 0.5 * y.square().sum(0).mean()
    least = 0.5 * (y - best @ x).square().sum(0).mean()
    assert float(found[0]) == pytest.approx(float(total))
    assert float(found[-1]) == pytest.approx(float(least), abs=1e-10 * float(total))
    assert (found >= 0).all() and (found.diff() <= 1e-12 * total).all()
    torch.testing.assert_close(staircase.rank_k_map(moments, min(moments.yx.shape)), best)
    rank = int(torch.linalg.matrix_rank(best @ x))
    for k in range(1, rank + 1):
        assert float(arrival_rate(moments, k)) > 1e-6  # not a direction that changes nothing
    with pytest.raises(ValueError, match=f"k = {rank + 1}"):
        arrival_rate(moments, rank + 1)
    stairs = staircase.predict_staircase(moments, 1e-8)
    assert stairs.times[:rank].isfinite().all() and stairs.times[rank:].isinf().all()
    assert not stairs.exponents.isnan().any()


def test_modes_at_rest_and_ties_have_their_exponents():
    eye, s = torch.eye(3, dtype=torch.float64), torch.tensor([2.0, 1.0, 0.0]).double()
    # A square task of rank two: at drop 2 the next mode is one at rest, not one that shrinks.
    low = staircase.predict_staircase(Moments(eye, torch.diag(s), torch.diag(s**2)), 0.1)
    assert low.exponents[1] == 1
    tied = torch.diag(torch.tensor([2.0, 2.0, 1.0]).double())
    found = staircase.predict_staircase(Moments(eye, tied, tied @ tied), 0.1)
    assert found.exponents[0] == 0 and found.times[0] == found.times[1] < found.times[2]
    nothing = staircase.predict_staircase(Moments(eye, 0 * eye, 0 * eye), 0.1)
    assert (nothing.sharpness == 0).all() and not nothing.beyond.any()
    assert nothing.times.isinf().all()


def test_a_batch_is_its_problems_one_by_one():
    batch = [problem(seed=i).moments() for i in range(3)]
    together = Moments(
        *(torch.stack(x) for x in zip(*[(m.xx, m.yx, m.yy) for m in batch], strict=True))
    )
    all_found = staircase.predict_staircase(together, 0.05)
    for i, moments in enumerate(batch):
        one = staircase.predict_staircase(moments, 0.05)
        for name in ("levels", "rates", "times", "exponents"):
            torch.testing.assert_close(getattr(all_found, name)[i], getattr(one, name))


def test_features_in_any_unit_have_the_same_levels():
    moments = linear_teacher(generator=generator("units"), noise=0.2).moments()
    unit = torch.logspace(-6, 6, 6, dtype=torch.float64)
    scaled = Moments(moments.xx * unit * unit[:, None], moments.yx * unit, moments.yy)
    torch.testing.assert_close(
        staircase.levels(moments), staircase.levels(scaled), rtol=1e-9, atol=1e-12
    )
    torch.testing.assert_close(
        staircase.rank_k_map(moments, 2), staircase.rank_k_map(scaled, 2) * unit
    )
