"""The recursion of jumps and the run in logarithms."""

import pytest
import torch

from learning_dynamics.data.published import diagonal_pair
from learning_dynamics.problems import Problem
from paper.saddles.nonlinear import diagonal_net


def test_recursion_gives_the_published_times():
    assert diagonal_net.jumps(diagonal_pair().moments()).times.tolist() == pytest.approx(
        diagonal_net.PUBLISHED_TIMES, abs=5e-5
    )


def test_run_meets_the_recursion_with_finite_step_rates_only():
    slopes, predicted = diagonal_net.measured_times((40.0, 60.0))
    assert torch.allclose(slopes, predicted, rtol=1e-4)
    flow = diagonal_net.jumps(diagonal_pair().moments()).times
    assert float((slopes / flow - 1).abs().max()) > 0.02  # the flow's times miss


def test_logarithms_are_plain_gradient_descent():
    p, alpha, eta, steps = diagonal_pair(), 1e-3, 0.02, 300
    m = p.moments()
    u = torch.full((2,), 2**0.5 * alpha, dtype=torch.float64)
    v = torch.zeros_like(u)
    for _ in range(steps):
        g = m.xx @ (u * v) - m.yx[0]
        u, v = u - eta * g * v, v - eta * g * u
    run = diagonal_net.descend_in_logarithms(
        m, [-torch.tensor(alpha, dtype=torch.float64).log().item()], step_size=eta, steps=steps
    )
    assert torch.allclose(run.maps[0, -1], u * v, atol=1e-10)


def test_uncorrelated_coordinates_jump_at_one_over_their_gradient():
    x = 2**0.5 * torch.eye(2, dtype=torch.float64)
    y = torch.tensor([[2.0, -0.5]], dtype=torch.float64) @ x
    assert diagonal_net.jumps(Problem(x, y).moments()).times.tolist() == pytest.approx([0.5, 2.0])
