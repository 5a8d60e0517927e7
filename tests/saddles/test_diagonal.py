"""The diagonal net on the ensemble kernel."""

import pytest
import torch

from learning_dynamics.losses import loss as find_loss
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.diagonal import DiagonalWeights, diagonal_descent, diagonal_gradient
from learning_dynamics.saddles.two_layer import Stop


def problem(loss="squared"):
    g = generator("diagonal")
    x = torch.randn(4, 9, generator=g, dtype=torch.float64)
    y = torch.randn(1, 9, generator=g, dtype=torch.float64)
    return Problem(x, y.sign() if loss == "logistic" else y)


def start(runs=3):
    g = generator("diagonal-start")
    return DiagonalWeights(*torch.randn(2, runs, 1, 4, generator=g, dtype=torch.float64))


@pytest.mark.parametrize("loss", ["squared", "huber", "logistic"])
def test_descent_equals_autograd(loss):
    p, eta = problem(loss), torch.tensor([0.01, 0.05, 0.1], dtype=torch.float64)
    run = diagonal_descent(start(), p, step_size=eta, steps=9, loss=loss)
    u, v = start()
    for _ in range(9):
        u, v = u.detach().requires_grad_(), v.detach().requires_grad_()
        find_loss(loss).value((u * v) @ p.inputs, p.targets).sum().backward()
        u, v = u - eta[:, None, None] * u.grad, v - eta[:, None, None] * v.grad
    torch.testing.assert_close(run.final.u, u.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(run.final.v, v.detach(), rtol=0, atol=1e-12)


def test_imbalance_changes_by_exactly_the_second_order_term():
    """u^2 - v^2 changes per step by eta^2 ((dL/du)^2 - (dL/dv)^2)."""
    w, eta = start(), 0.05
    g = diagonal_gradient(w, problem()).gradients
    end = diagonal_descent(w, problem(), step_size=eta, steps=1).final
    change = end.u**2 - end.v**2 - (w.u**2 - w.v**2)
    torch.testing.assert_close(change, eta**2 * (g.u**2 - g.v**2), rtol=0, atol=1e-12)


def test_stop_and_divergence():
    run = diagonal_descent(
        start(),
        problem(),
        step_size=0.05,
        steps=900,
        stop=Stop(gradient_norm=0.05),
        observables=("loss", "gradient_norm", "product"),
    )
    assert (run.stopped_at > 0).all() and (run["gradient_norm"][:, -1] <= 0.05).all()
    with pytest.raises(ValueError, match="diverged at step"):
        diagonal_descent(start(), problem(), step_size=50.0, steps=100)
