"""Activations: derivative and secant are those of the function; homogeneity is true where stated."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learning_dynamics.activations import ACTIVATIONS, activation, leaky_relu

POINTS = torch.tensor([-8.0, -2.5, -0.7, -1e-3, 1e-3, 0.4, 1.9, 7.0], dtype=torch.float64)
ALL = [*ACTIVATIONS.values(), leaky_relu(0.3)]


@pytest.mark.parametrize("sigma", ALL, ids=lambda s: s.name)
def test_derivative_is_autograds(sigma):
    z = torch.cat([POINTS, torch.zeros(1, dtype=torch.float64)]).requires_grad_()
    (wanted,) = torch.autograd.grad(sigma(z).sum(), z)
    got = sigma.derivative(z.detach())
    torch.testing.assert_close(got[:-1], wanted[:-1], rtol=1e-12, atol=1e-14)
    if sigma.name != "leaky_relu" and not sigma.name.startswith("leaky"):
        torch.testing.assert_close(got[-1], wanted[-1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("sigma", ALL, ids=lambda s: s.name)
def test_secant_times_z_is_the_function(sigma):
    torch.testing.assert_close(sigma.secant(POINTS) * POINTS, sigma(POINTS), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("sigma", ALL, ids=lambda s: s.name)
def test_secant_at_zero_is_its_limit(sigma):
    zero = torch.zeros(1, dtype=torch.float64)
    at_zero = sigma.secant(zero)
    if sigma(zero) != 0:
        assert torch.isinf(at_zero).all()
    else:
        torch.testing.assert_close(at_zero, sigma.derivative(zero))


@pytest.mark.parametrize("sigma", ALL, ids=lambda s: s.name)
@settings(deadline=None)
@given(scale=st.floats(1e-3, 1e3))
def test_homogeneous_exactly_where_stated(sigma, scale):
    scaled = torch.allclose(sigma(scale * POINTS), scale * sigma(POINTS), rtol=1e-12, atol=0)
    if sigma.homogeneous:
        assert scaled
    elif abs(math.log(scale)) > 1:
        assert not scaled


def test_shifted_softplus_keeps_the_origin():
    assert float(activation("softplus")(torch.zeros(1))) == pytest.approx(0, abs=1e-7)


def test_lookup():
    assert activation("relu") is ACTIVATIONS["relu"]
    assert activation(ACTIVATIONS["tanh"]).name == "tanh"


def test_unknown_name_lists_the_known_ones(as_users_run):
    with pytest.raises(ValueError, match=r"activation = 'swish'.*gelu.*tanh"):
        activation("swish")
