"""Other optimisers and larger steps: roots, random products, the flattest minimum, and controls."""

import doctest

import pytest
import torch
from scipy.optimize import minimize_scalar

from learning_dynamics.problems import Problem
from learning_dynamics.saddles.linear_nets.modes import stack_moments
from learning_dynamics.saddles.theory.staircase import least_squares, sharpness
from paper.saddles.optimisers import edge, one_law
from paper.saddles.random_linear import problems_with_gaps


@pytest.mark.parametrize("kind", ["heavy ball", "Nesterov"])
def test_the_root_is_what_torch_grows_by(kind):
    # L = -s a b with one unit (a, b) = (x, x): a mode of rate s, by torch's own optimiser.
    unit = torch.nn.Parameter(torch.tensor([1.0, 1.0], dtype=torch.float64))
    optimizer = torch.optim.SGD([unit], 0.1, momentum=0.8, nesterov=kind == "Nesterov")
    sizes = []
    for _ in range(60):
        optimizer.zero_grad()
        (-0.7 * unit[0] * unit[1]).backward()
        optimizer.step()
        sizes.append(float(unit[0].detach()))
    z = one_law.root(torch.tensor([0.7], dtype=torch.float64), 0.1, 0.8, kind)
    assert abs(sizes[-1] / sizes[-2] / float(z) - 1) < 1e-9


def test_lyapunov_exponents_of_scalars_are_mean_logarithms():
    # One input and one output: the factors commute, and chi_1 is the mean of log(1 + eta y x).
    x = torch.tensor([[0.5, 1.0, 2.0, 1.5]], dtype=torch.float64)
    problem, exact = Problem(x, 2 * x), (0.2 * x.square() * 2).log1p().mean()
    for shuffled in (False, True):
        found = one_law.lyapunov(problem, 0.2, 1, shuffled, 400, 400)[:, 0]
        assert abs(float(found.mean() / exact) - 1) < 5e-3
    spread = [one_law.lyapunov(problem, 0.2, 1, s, 100, 400)[:, 0].std() for s in (False, True)]
    assert spread[1] < 1e-9 < spread[0]  # each pass has every factor once


def test_all_samples_in_one_batch_are_gradient_descent():
    problem = problems_with_gaps(1, least_gap=0.3)[0]
    s = torch.linalg.svdvals(problem.moments().yx)[:2]
    found = one_law.lyapunov(problem, 0.1 / float(s[0]), 40, True, 1, 400)[0]
    torch.testing.assert_close(found, (0.1 * s / s[0]).log1p(), rtol=1e-6, atol=0)


def test_balanced_layers_are_never_flatter_than_the_flattest():
    for i in range(30):
        moments = edge.draw(i).moments()
        balanced = float(sharpness(moments, iterations=2000)[-1])
        assert balanced >= (1 - 1e-9) * float(edge.flattest(moments))


@pytest.mark.parametrize("module", [edge, one_law])
def test_examples_run(module):
    found = doctest.testmod(module)
    assert found.attempted and not found.failed


def test_the_flattest_layers_beat_random_ones_and_are_attained():
    moments = [edge.draw(i).moments() for i in range(2)]
    for m, least in zip(moments, edge.flattest(stack_moments(moments)), strict=True):
        u, s, vh = torch.linalg.svd(least_squares(m), full_matrices=False)

        def loss(flat, m=m):
            w = flat[24:].reshape(4, 4) @ flat[:24].reshape(4, 6)
            return 0.5 * ((w @ m.xx - 2 * m.yx) * w).sum()

        def top(power, c, u=u, s=s, vh=vh, loss=loss):
            # Largest eigenvalue of the Hessian, by differentiation, for W2 = c U s^power.
            w2, w1 = c * u * s**power, s[:, None] ** (1 - power) / c * vh
            flat = torch.cat([w1.flatten(), w2.flatten()])
            return float(torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat))[-1])

        others = [top(p, c) for p in (0.25, 0.5, 0.75) for c in (0.5, 1.0, 2.0)]
        assert min(others) > float(least)
        attained = minimize_scalar(lambda c: top(0.0, c), bounds=(0.1, 10), method="bounded").fun
        assert abs(attained / float(least) - 1) < 1e-3
