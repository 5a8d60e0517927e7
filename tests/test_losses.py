"""Losses: gradients are autograd's, constants are Lipschitz, conventions are means over samples."""

import pytest
import torch

from learning_dynamics.losses import LOSSES, cross_entropy, huber, logistic, loss, squared
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
@pytest.mark.parametrize("runs", [(), (4,)], ids=["one", "batch"])
def test_gradient_is_autograds(l, runs):
    f, y = data(l.name, runs=runs)
    f.requires_grad_()
    (wanted,) = torch.autograd.grad(l.value(f, y).sum(), f)
    torch.testing.assert_close(l.gradient(f.detach(), y), wanted, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(l.residual(f.detach(), y), 3 * wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("l", CASES, ids=lambda c: c.name)
def test_residual_is_lipschitz(l):
    ratios = []
    for seed in range(50):
        f, y = data(l.name, seed)
        other = f + 0.1 * data(l.name, seed + 1000)[0]
        change = (l.residual(other, y) - l.residual(f, y)).norm()
        ratios.append(float(change / (other - f).norm()))
    assert max(ratios) <= l.lipschitz * (1 + 1e-9)


@pytest.mark.parametrize("l", CASES, ids=lambda c: c.name)
def test_duplicated_data_change_nothing(l):
    if "weighted" in l.name:
        return  # the weights belong to samples
    f, y = data(l.name)
    torch.testing.assert_close(l.value(f.repeat(1, 5), y.repeat(1, 5)), l.value(f, y))


def test_squared_loss_is_half_the_mean_square():
    f, y = torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 1.0]])
    assert float(squared().value(f, y)) == pytest.approx((1 + 4) / 2 / 2)


def test_huber_is_the_squared_loss_for_small_errors():
    f, y = data("squared")
    torch.testing.assert_close(huber(100.0).value(f, y), squared().value(f, y))
    assert not torch.allclose(huber(0.1).value(f, y), squared().value(f, y))


def test_weights_hide_entries():
    f, y = data("squared")
    hidden = f.clone()
    hidden[0, 1] += 5  # weight 0
    torch.testing.assert_close(squared(WEIGHTS).value(hidden, y), squared(WEIGHTS).value(f, y))


def test_bad_arguments(as_users_run):
    with pytest.raises(ValueError, match=r"loss = 'hinge'.*huber"):
        loss("hinge")
    with pytest.raises(ValueError, match="weights"):
        squared(torch.tensor([[-1.0]]))


def test_lookup():
    assert all(loss(name).name.startswith(name[:4]) for name in LOSSES)
    assert loss(logistic()).name == "logistic"
