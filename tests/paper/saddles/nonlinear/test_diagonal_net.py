"""The recursion of jumps and the run in logarithms."""

import math

import pytest
import torch

from learning_dynamics.data.published import diagonal_pair
from learning_dynamics.problems import Problem
from paper.saddles.nonlinear import diagonal_net


def test_run_meets_the_recursion_with_finite_step_rates_only():
    slopes, predicted = diagonal_net.measured_times((40.0, 60.0))
    assert torch.allclose(slopes, predicted, rtol=1e-4)
    flow = diagonal_net.jumps(diagonal_pair().moments()).times
    assert float((slopes / flow - 1).abs().max()) > 0.02  # the flow's times miss


def test_logarithms_are_plain_gradient_descent():
    m, alpha, eta = diagonal_pair().moments(), 1e-3, 0.02
    u, v = torch.tensor([[2**0.5 * alpha] * 2, [0.0] * 2], dtype=torch.float64)
    for _ in range(300):
        g = m.xx @ (u * v) - m.yx[0]
        u, v = u - eta * g * v, v - eta * g * u
    logs = [-math.log(alpha)]
    _, maps = diagonal_net.descend_in_logarithms(m, logs, step_size=eta, steps=300)
    assert torch.allclose(maps[0, -1], u * v, atol=1e-10)


def test_uncorrelated_coordinates_jump_at_one_over_their_gradient():
    x = 2**0.5 * torch.eye(2, dtype=torch.float64)
    y = torch.tensor([[2.0, -0.5]], dtype=torch.float64) @ x
    assert diagonal_net.jumps(Problem(x, y).moments()).times.tolist() == pytest.approx([0.5, 2.0])
