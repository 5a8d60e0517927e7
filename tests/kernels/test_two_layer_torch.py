"""Symmetries of gradient descent, for problems drawn by hypothesis; the kernels' own contract."""

import torch
from hypothesis import given, settings, strategies

from learning_dynamics.activations import activation
from learning_dynamics.kernels.two_layer_torch import DenseKernel, ProductKernel
from learning_dynamics.problems import Problem, random_orthogonal
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.two_layer import (
    Weights,
    choose_kernel,
    gradient,
    gradient_descent,
    initialise,
)

property_test = settings(max_examples=12, deadline=None, derandomize=True)
widths = strategies.integers(1, 5)
seeds = strategies.integers(0, 10**6)
homogeneous = strategies.sampled_from(["linear", "relu", "leaky_relu"])
names = strategies.sampled_from(["linear", "relu", "tanh", "gelu", "softplus"])


def case(m0, m1, m2, seed):
    g = generator("symmetry", seed)
    x = torch.randn(m0, m0 + 3, generator=g, dtype=torch.float64)
    y = torch.randn(m2, m0 + 3, generator=g, dtype=torch.float64)
    return Problem(x, y), initialise((m0, m1, m2), 0.3, [g, g]), g


def final(weights, problem, name="linear", eta=0.02):
    options = {"step_size": eta, "steps": 40, "activation": name, "on_divergence": "mark"}
    return gradient_descent(weights, problem, **options).final


def same(a, b, tolerance=1e-12):
    for got, want in zip(a, b, strict=True):
        torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


@property_test
@given(widths, widths, widths, seeds, names)
def test_permuting_units_permutes_the_run(m0, m1, m2, seed, name):
    problem, w, g = case(m0, m1, m2, seed)
    order = torch.randperm(m1, generator=g)
    moved = final(Weights(w.w1[:, order], w.w2[..., order]), problem, name)
    end = final(w, problem, name)
    same(moved, Weights(end.w1[:, order], end.w2[..., order]))


@property_test
@given(widths, widths, widths, seeds)
def test_rotating_the_hidden_basis_rotates_a_linear_run(m0, m1, m2, seed):
    problem, w, g = case(m0, m1, m2, seed)
    q = random_orthogonal(m1, g)
    end = final(w, problem)
    same(final(Weights(q @ w.w1, w.w2 @ q.mT), problem), Weights(q @ end.w1, end.w2 @ q.mT))


def test_rotating_the_hidden_basis_changes_a_relu_run():
    problem, w, g = case(4, 5, 3, 0)
    q = random_orthogonal(5, g)
    end = final(w, problem, "relu")
    turned = final(Weights(q @ w.w1, w.w2 @ q.mT), problem, "relu")
    assert (turned.w1 - q @ end.w1).abs().max() > 1e-3


@property_test
@given(widths, widths, widths, seeds, homogeneous)
def test_imbalance(m0, m1, m2, seed, name):
    """W1 W1' - W2' W2 changes per step by eta^2 (dW1 dW1' - dW2' dW2), exactly, in a linear net;
    its diagonal in every net with sigma(z) = z sigma'(z)."""
    problem, w, _ = case(m0, m1, m2, seed)
    eta, g = 0.02, gradient(w, problem, activation=name).gradients
    end = gradient_descent(w, problem, step_size=eta, steps=1, activation=name).final
    start, stop, drift = (v.w1 @ v.w1.mT - v.w2.mT @ v.w2 for v in (w, end, g))
    apart = stop - start - eta**2 * drift
    apart = apart if name == "linear" else apart.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(apart, torch.zeros_like(apart), rtol=0, atol=1e-12)


def test_imbalance_fails_for_tanh():
    problem, w, _ = case(4, 5, 3, 1)
    w = Weights(3 * w.w1, 3 * w.w2)
    g = gradient(w, problem, activation="tanh").gradients
    drift = (w.w1 * g.w1).sum(-1) - (w.w2 * g.w2).sum(-2)  # zero for homogeneous activations
    assert drift.abs().max() > 1e-2


def test_the_kernel_with_fewer_operations_is_chosen():
    linear, tanh = activation("linear"), activation("tanh")
    like = torch.empty(1, dtype=torch.float64)
    assert choose_kernel(linear, (200, 500, 100, 400), like)[0] is ProductKernel
    assert choose_kernel(linear, (100, 1, 100, 200), like)[0] is DenseKernel
    assert choose_kernel(tanh, (20, 50, 10, 40), like)[0] is DenseKernel
