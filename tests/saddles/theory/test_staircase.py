import math

import pytest
import torch

from learning_dynamics.problems import Moments, linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.theory import staircase
from learning_dynamics.saddles.two_layer import Weights, gradient


def problem(covariance="generic", seed=0, **options):
    return linear_teacher(
        generator=generator("test-staircase", seed), covariance=covariance, **options
    )


def test_rank_k_optimum_beats_every_other_map_of_rank_k():
    moments = problem(noise=0.3).moments()
    g = generator("test-staircase", "rivals")
    for k in range(1, 4):
        best, loss = staircase.rank_k_optimum(moments, k)
        assert torch.linalg.matrix_rank(best) == k
        torch.testing.assert_close(loss, staircase.levels(moments)[k], atol=1e-12, rtol=0)
        factors = 0.03 * torch.randn(200, 4 + 6, k, generator=g, dtype=torch.float64)
        u, s, v = torch.linalg.svd(best, full_matrices=False)
        left = u[:, :k] * s[:k].sqrt() + factors[:, :4]
        right = v.mT[:, :k] * s[:k].sqrt() + factors[:, 4:]
        baseline = left @ right.mT
        inner = moments.yy - 2 * baseline @ moments.yx.mT + baseline @ moments.xx @ baseline.mT
        losses = 0.5 * inner.diagonal(dim1=-2, dim2=-1).sum(-1)
        assert (losses > loss).all()


@pytest.mark.parametrize("covariance", ["generic", "commuting", "isotropic"])
def test_every_visited_saddle_is_stationary(covariance):
    p = problem(covariance, noise=0.3)
    for k in range(5):
        u, s, vh = torch.linalg.svd(staircase.rank_k_map(p.moments(), k), full_matrices=False)
        root = torch.where(torch.arange(4) < k, s, 0.0).sqrt()
        state = gradient(Weights(root[:, None] * vh, u * root), p)
        assert state.gradients.w1.abs().max() < 1e-12
        assert state.gradients.w2.abs().max() < 1e-12
        residual = staircase.residual_correlation(p.moments(), k)
        rates = staircase.predict_staircase(p.moments()).rates
        rates = rates[k] if k < 4 else torch.zeros_like(rates[0])
        torch.testing.assert_close(torch.linalg.svdvals(residual), rates, atol=1e-12, rtol=0)


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


@pytest.mark.parametrize("covariance", ["generic", "commuting"])
def test_sharpness_is_the_top_of_the_hessian(covariance):
    moments = problem(covariance, noise=0.3).moments()
    found = staircase.sharpness(moments)
    for k in range(5):
        u, s, v = torch.linalg.svd(staircase.rank_k_map(moments, k), full_matrices=False)
        root = torch.where(torch.arange(4) < k, s, 0.0).sqrt()

        def loss(parameters):
            w1, w2 = parameters.split((24, 16))
            w = w2.reshape(4, 4) @ w1.reshape(4, 6)
            return 0.5 * torch.trace(w @ moments.xx @ w.mT - 2 * w @ moments.yx.mT)

        saddle = torch.cat([(root[:, None] * v).flatten(), (u * root).flatten()])
        top = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, saddle))[-1]
        torch.testing.assert_close(found[k], top, rtol=2e-3, atol=0)
    small, large = (staircase.predict_staircase(moments, c / found.max()) for c in (1.9, 2.1))
    assert not small.beyond.any() and large.beyond.any()
    assert not staircase.predict_staircase(moments).beyond.any()


def test_a_start_without_spare_modes_shrinks_beyond_the_rank():
    square = staircase.predict_staircase(problem("generic", output_dim=6).moments())
    assert square.times.isinf()[4:].all()  # rank 4 of 6: two modes never escape
    assert square.times.isfinite()[:4].all()
    assert not square.exponents.isnan().any()


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
