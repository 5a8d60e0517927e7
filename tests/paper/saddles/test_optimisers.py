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
    unit, sizes = torch.ones(2, dtype=torch.float64), []
    optimizer = torch.optim.SGD([unit], 0.1, momentum=0.8, nesterov=kind == "Nesterov")
    for _ in range(60):
        unit.grad = -0.7 * unit.flip(0)
        optimizer.step()
        sizes.append(float(unit[0]))
    z = one_law.root(torch.tensor([0.7], dtype=torch.float64), 0.1, 0.8, kind)
    assert abs(sizes[-1] / sizes[-2] / float(z) - 1) < 1e-9


def test_lyapunov_exponents_of_scalars_are_mean_logarithms():
    # One input and one output: the factors commute, and chi_1 is the mean of log(1 + eta y x).
    x = torch.tensor([[0.5, 1.0, 2.0, 1.5]], dtype=torch.float64)
    problem, exact = Problem(x, 2 * x), (0.2 * x.square() * 2).log1p().mean()
    for shuffled in (False, True):
        found = one_law.lyapunov(problem, 0.2, 1, shuffled, 400, 400)[:, 0]
        assert abs(float(found.mean() / exact) - 1) < 5e-3
        assert (found.std() < 1e-9) == shuffled  # each pass has every factor once


def test_all_samples_in_one_batch_are_gradient_descent():
    problem = problems_with_gaps(1, least_gap=0.3)[0]
    s = torch.linalg.svdvals(problem.moments().yx)[:2]
    found = one_law.lyapunov(problem, 0.1 / float(s[0]), 40, True, 1, 400)[0]
    torch.testing.assert_close(found, (0.1 * s / s[0]).log1p(), rtol=1e-6, atol=0)


def test_balanced_layers_are_never_flatter_than_the_flattest():
    moments = stack_moments([edge.draw(i).moments() for i in range(30)])
    balanced = sharpness(moments, iterations=2000)[:, -1]
    assert bool((balanced >= (1 - 1e-9) * edge.flattest(moments)).all())


@pytest.mark.parametrize("module", [edge, one_law])
def test_examples_run(module):
    found = doctest.testmod(module)
    assert found.attempted and not found.failed


@pytest.mark.parametrize("draw", [0, 1])
def test_the_flattest_layers_beat_random_ones_and_are_attained(draw):
    m = edge.draw(draw).moments()
    least = float(edge.flattest(m))
    u, s, vh = torch.linalg.svd(least_squares(m), full_matrices=False)

    def loss(w2, w1):
        return 0.5 * ((w2 @ w1 @ m.xx - 2 * m.yx) * (w2 @ w1)).sum()

    def top(power, c):
        # Largest eigenvalue of the Hessian, by differentiation, for W2 = c U s^power.
        layers = c * u * s**power, s[:, None] ** (1 - power) / c * vh
        rows = torch.autograd.functional.hessian(loss, layers)
        size = [w.numel() for w in layers]
        blocks = [[b.reshape(n, -1) for b in row] for n, row in zip(size, rows, strict=True)]
        return float(torch.linalg.eigvalsh(torch.cat([torch.cat(row, 1) for row in blocks]))[-1])

    assert min(top(p, c) for p in (0.25, 0.5, 0.75) for c in (0.5, 1.0, 2.0)) > least
    attained = minimize_scalar(lambda c: top(0.0, c), bounds=(0.1, 10), method="bounded").fun
    assert abs(attained / least - 1) < 1e-3
