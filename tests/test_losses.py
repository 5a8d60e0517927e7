"""Losses: gradients are autograd's, constants are Lipschitz, conventions are means over samples."""

import pytest
import torch

from learning_dynamics import saddles, scales
from learning_dynamics.losses import cross_entropy, huber, logistic, squared
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator

WEIGHTS = torch.tensor([[1.0, 0.0, 1.0], [0.5, 1.0, 0.0]], dtype=torch.float64)


def data(kind, seed=0, runs=()):
    g = generator("losses", seed)
    f = 2 * torch.randn(*runs, 2, 3, generator=g, dtype=torch.float64)
    y = 2 * torch.randn(*runs, 2, 3, generator=g, dtype=torch.float64)
    if kind == "logistic":
        y = torch.sign(y)
    if kind == "cross_entropy":
        y = torch.softmax(y, -2)
    return f, y


CASES = [squared(), squared(WEIGHTS), huber(), huber(0.3), logistic(), cross_entropy()]


@pytest.mark.parametrize("l", CASES, ids=lambda c: c.name)
def test_gradient_is_autograds_and_residual_is_lipschitz(l):
    for runs in ((), (4,)):
        f, y = data(l.name, runs=runs)
        f.requires_grad_()
        (wanted,) = torch.autograd.grad(l.value(f, y).sum(), f)
        torch.testing.assert_close(l.gradient(f.detach(), y), wanted, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(l.residual(f.detach(), y), 3 * wanted, rtol=1e-12, atol=1e-14)
    for seed in range(50):
        f, y = data(l.name, seed)
        step = 0.1 * data(l.name, seed + 1000)[0]
        change = (l.residual(f + step, y) - l.residual(f, y)).norm()
        assert float(change / step.norm()) <= l.lipschitz * (1 + 1e-9)


X = torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64)
#: Targets of the right kind, made from others.
LABELS = {
    "logistic": lambda y: 2 * (y > 0) - torch.ones_like(y),
    "cross_entropy": lambda y: torch.softmax(y, 0),
}
ZERO_ONE = torch.tensor([[0.0, 1.0, 1.0]], dtype=torch.float64)


WRONG = [ZERO_ONE, 1 - 2 * torch.cat([ZERO_ONE, 1 - ZERO_ONE]), torch.cat([ZERO_ONE, ZERO_ONE])]
WRONG = [
    ("logistic", ZERO_ONE),
    *(("cross_entropy", y) for y in [*WRONG, ZERO_ONE[:, 1:2] + 0 * X]),
]


@pytest.mark.parametrize("name,targets", WRONG)
@pytest.mark.parametrize("call", ["descent", "gradient", "matrix", "sgd", "evaluate", "deep"])
def test_labels_of_another_kind_are_refused(name, targets, call):
    problem, outputs = Problem(X, targets), len(targets)
    start = saddles.initialise((1, 4, outputs), 0.1, [generator("labels")])
    deep = saddles.initialise_deep((1, 4, outputs), 0.1, [generator("labels")])
    state = scales.initialise((1, 4, outputs), (1.0, 1.0), [0], dtype=torch.float64)
    train = {"seeds": [0], "step_size": 0.1, "steps": 1, "batch_size": 3, "loss": name}
    good = Problem(X, LABELS[name](targets))
    calls = {
        "descent": lambda p: saddles.gradient_descent(start, p, step_size=0.1, steps=1, loss=name),
        "gradient": lambda p: saddles.gradient(start, p, loss=name),
        "matrix": lambda p: saddles.unit_matrix(start, p, loss=name),
        "deep": lambda p: saddles.layerwise_descent(deep, p, step_size=0.1, sweeps=1, loss=name),
        "sgd": lambda p: scales.sgd(p, state.clone(), (1.0, 1.0), **train),
        "evaluate": lambda p: scales.sgd(
            good, state.clone(), (1.0, 1.0), evaluate={"t": p}, **train
        ),
    }
    with pytest.raises(ValueError, match=rf"targets\[.*{name} allows"):
        calls[call](problem)
    if outputs > 1 or name == "logistic":
        calls[call](good)


def test_squared_loss_is_half_the_mean_square_weights_hide_entries_and_huber_is_it_near_zero():
    f, y = torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 1.0]])
    assert float(squared().value(f, y)) == pytest.approx((1 + 4) / 2 / 2)
    f, y = data("squared")
    torch.testing.assert_close(huber(100.0).value(f, y), squared().value(f, y))
    assert not torch.allclose(huber(0.1).value(f, y), squared().value(f, y))
    hidden = f.clone()
    hidden[0, 1] += 5  # weight 0
    torch.testing.assert_close(squared(WEIGHTS).value(hidden, y), squared(WEIGHTS).value(f, y))
