"""The gradients written by hand, each in one place, against automatic differentiation."""

import torch
from hypothesis import given, settings, strategies

from learning_dynamics.activations import ACTIVATIONS, activation
from learning_dynamics.kernels.mlp_torch import Passes, deltas
from learning_dynamics.kernels.weights import Weights, gradient, linear_force, pull_back, unit_force
from learning_dynamics.losses import LOSSES
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator

property_test = settings(max_examples=15, deadline=None, derandomize=True)
sizes = strategies.integers(1, 5)
names = strategies.sampled_from(sorted(ACTIVATIONS))


def draws(*shapes, seed):
    g = generator("gradients", seed)
    return [torch.randn(*s, generator=g, dtype=torch.float64) for s in shapes]


def same(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)


@property_test
@given(sizes, sizes, sizes, sizes, names, strategies.sampled_from(sorted(LOSSES)))
def test_two_layers(m0, m1, m2, n, name, loss):
    """All runs at once, and unit by unit."""
    m2 += loss == "cross_entropy"  # of two classes or more
    w1, w2, x, y = draws((2, m1, m0), (2, m2, m1), (m0, n), (m2, n), seed=name)
    y = torch.softmax(y, 0) if loss == "cross_entropy" else y.sign()
    weights, act, criterion = Weights(w1, w2), activation(name), LOSSES[loss]()
    leaves = [w.clone().requires_grad_() for w in weights]
    outputs = leaves[1] @ act(leaves[0] @ x)
    wanted = torch.autograd.grad(criterion.value(outputs, y).sum(), leaves)
    state = gradient(weights, Problem(x, y), activation=act, loss=criterion)
    same(tuple(state.gradients), wanted)
    g = criterion.gradient(outputs.detach(), y)
    for run in range(2):
        force = unit_force(weights.units[run], x, -g[run], act)
        same(force, -Weights(*(w[run] for w in wanted)).units)
    if name == "linear":
        same(linear_force(weights.units, -g @ x.mT), -Weights(*wanted).units)
    slopes = torch.full((2, m1, n), 0.3, dtype=torch.float64)  # as on kinks: any slopes
    leaf = w1.clone().requires_grad_()
    (wanted_w1,) = torch.autograd.grad((w2 @ (slopes * (leaf @ x)) * g).sum(), leaf)
    same(pull_back(w2, x, slopes * (w1 @ x), slopes, g).w1, wanted_w1)


@property_test
@given(strategies.lists(sizes, min_size=3, max_size=5), sizes, names)
def test_deep_nets(widths, n, name):
    """delta_l = dL/dz_l, and dL/dW_l = g_l delta_l h_{l-1}' as the step of `Passes` takes it."""
    shapes = [(2, b, a) for a, b in zip(widths, widths[1:], strict=False)]
    *weights, x, top = draws(*shapes, (1, widths[0], n), (2, widths[-1], n), seed=name)
    act, multipliers = activation(name), [0.5 + k for k in range(len(weights))]
    leaves, h, z = [w.clone().requires_grad_() for w in weights], x, []
    for w, g in zip(leaves, multipliers, strict=True):
        z.append(g * w @ h)
        h = act(z[-1])
    grads = torch.autograd.grad((z[-1] * top).sum(), [*z, *leaves])
    slopes = [act.derivative(v.detach()) for v in z[:-1]]
    found, passed = deltas(weights, slopes, top, multipliers)
    same(found, list(grads[: len(z)]))
    same([s * p for s, p in zip(slopes, passed, strict=True)], found[:-1])
    stepped = [w.clone() for w in weights]
    passes = Passes(stepped, None, multipliers, [1.0] * len(weights), act, 0.1)
    passes.forward(x.mT)
    passes.backward(top.mT.contiguous())
    same(stepped, [w - 0.1 * d for w, d in zip(weights, grads[len(z) :], strict=True)])
