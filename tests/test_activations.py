"""Activations: derivative and secant are those of the function; homogeneity is true where stated."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learning_dynamics.activations import ACTIVATIONS, activation, kinks, leaky_relu, slopes_at_zero
from learning_dynamics.problems import linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles import Settings, gradient_descent, initialise, skip_plateaus
from learning_dynamics.saddles.theory.extremal_directions import dormant_activation
from tables import table

POINTS = torch.tensor([-8.0, -2.5, -0.7, -1e-3, 1e-3, 0.4, 1.9, 7.0], dtype=torch.float64)
ALL = [*ACTIVATIONS.values(), leaky_relu(0.3)]


@pytest.mark.parametrize("sigma", ALL, ids=lambda s: s.name)
@given(scale=st.floats(1e-3, 1e3))
def test_secant_at_zero_is_its_limit_and_homogeneous_is_what_is_so_stated(sigma, scale):
    zero = torch.zeros(1, dtype=torch.float64)
    limit = sigma.derivative(zero) if sigma(zero) == 0 else torch.full_like(zero, torch.inf)
    torch.testing.assert_close(sigma.secant(zero).abs(), limit.abs())
    scaled = torch.allclose(sigma(scale * POINTS), scale * sigma(POINTS), rtol=1e-12, atol=0)
    if sigma.homogeneous or abs(math.log(scale)) > 1:
        assert scaled is sigma.homogeneous


GIVEN = table("activations")
PROBLEM = linear_teacher(generator=generator("activations"))


@pytest.mark.parametrize("name", torch.nn.modules.activation.__all__)
def test_activations_of_torch_are_understood_or_refused(as_users_run, name):
    module = getattr(torch.nn, name)(*GIVEN["arguments"].get(name, ()))
    if why := GIVEN["refused"].get(name):
        with pytest.raises(ValueError, match=f"activation = {name}.*{why}"):
            activation(module)
        return
    sigma, (left, right, at) = activation(module), GIVEN["understood"][name]
    assert sigma.homogeneous == (name in ("ReLU", "LeakyReLU"))
    assert slopes_at_zero(sigma) == pytest.approx((left, right), rel=1e-6)
    assert kinks(sigma) == pytest.approx(at, abs=1e-6)
    # Its second moment on Gaussian numbers, by Gauss and Hermite, is that of the module.
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.hermite_e.hermegauss(60))
    second = [float(weights @ f(nodes).square()) for f in (sigma, module)]
    assert second[0] == pytest.approx(second[1], rel=1e-12)
    # Where units leave the origin it is skipped, or why not is said, and is true.
    at_zero = float(module(torch.zeros(1)))
    reason = "sigma.0. must" if at_zero else "sigma'.0.. must" if right == 0 else "jumps at z"
    start = initialise((6, 8, 4), 1e-3, [generator("activations", 1)])
    if at_zero == 0 and right and (sigma.homogeneous or not at):
        few = Settings(max_stages=1, max_steps=100)
        path = skip_plateaus(
            PROBLEM, width=2, activation=module, generator=generator(1), settings=few
        )
        assert path.losses[1] < path.losses[0]
    else:
        with pytest.raises(ValueError, match=reason):
            skip_plateaus(PROBLEM, width=2, activation=module, generator=generator(1))
    # One step of gradient descent is that of autograd.
    run = gradient_descent(start, PROBLEM, step_size=0.1, steps=1, activation=module)
    w = [part[0].clone().requires_grad_() for part in start]
    outputs = w[1] @ module(w[0] @ PROBLEM.inputs)
    (0.5 * (outputs - PROBLEM.targets).square().sum(0).mean()).backward()
    for part, end in zip(w, run.final, strict=True):
        torch.testing.assert_close(end[0], (part - 0.1 * part.grad).detach())


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda z: z - z.mean(), "not elementwise"),
        (lambda z: 2 * z.detach(), "fails"),
        (lambda z: z * z.detach(), "not its derivative"),
        (lambda z: z.round().float(), "shape and dtype"),
        (torch.log, "finite"),
        (torch.nn.ELU(inplace=True), "fails"),
        (lambda z: z.copy_(2 * z) if not z.requires_grad else 2 * z, "in place"),
        (torch.nn.Dropout(), "random"),
    ],
)
def test_a_function_that_is_no_activation_is_refused(as_users_run, function, why):
    with pytest.raises(ValueError, match=why):
        activation(function)


def test_a_homogeneous_function_is_recognised_by_what_it_does(as_users_run):
    assert activation(torch.abs).homogeneous and slopes_at_zero(activation(torch.abs)) == (-1, 1)
    assert not activation(lambda z: z.clamp(max=1e5)).homogeneous
    assert activation(torch.nn.Identity()).negative_slope == 1
    assert dormant_activation(torch.nn.ReLU6())(POINTS).equal(torch.relu(POINTS))
