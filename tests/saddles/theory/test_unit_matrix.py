import pytest
import torch

from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.theory.unit_matrix import unit_error, unit_gradient, unit_matrix
from learning_dynamics.saddles.two_layer import gradient_descent, initialise

EXACT = ("linear", "relu", "leaky_relu")
CURVED = ("tanh", "gelu", "softplus", "square", "sigmoid")


def data(scale=1.0, runs=3):
    g = generator("test-units")
    problem = Problem(
        torch.randn(5, 20, generator=g, dtype=torch.float64),
        torch.randn(3, 20, generator=g, dtype=torch.float64),
    )
    return problem, initialise((5, 7, 3), scale, [generator("test-units", i) for i in range(runs)])


@pytest.mark.parametrize("name", EXACT + CURVED)
@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_secant_form_is_the_step_of_the_kernel(name, loss):
    problem, weights = data()
    assert unit_error(weights, problem, activation=name, loss=loss).max() < 1e-12
    eta = 0.01
    m = unit_matrix(weights, problem, activation=name, loss=loss)
    predicted = weights.units - eta * (m @ weights.units[..., None])[..., 0]
    run = gradient_descent(weights, problem, step_size=eta, steps=1, activation=name, loss=loss)
    torch.testing.assert_close(predicted, run.final.units, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", EXACT)
def test_printed_form_is_exact_for_homogeneous_activations(name):
    problem, weights = data()
    assert unit_error(weights, problem, activation=name, form="printed").max() < 1e-13


@pytest.mark.parametrize(
    ("name", "power"), [("tanh", 2), ("gelu", 1), ("softplus", 1), ("sigmoid", 0), ("square", 0)]
)
def test_printed_form_errs_by_a_power_of_the_weight_scale(name, power):
    errors = []
    for scale in (1e-4, 1e-3):
        problem, weights = data(scale)
        errors.append(unit_error(weights, problem, activation=name, form="printed"))
    slope = (errors[1] / errors[0]).log10()
    torch.testing.assert_close(slope, torch.full_like(slope, power), atol=0.05, rtol=0)


def test_the_origin_is_no_stationary_point_for_the_sigmoid():
    problem, weights = data(1e-8)
    assert unit_gradient(weights, problem, activation="sigmoid").norm() > 0.1
    assert unit_gradient(weights, problem, activation="tanh").norm() < 1e-6


def test_linear_matrix_is_shared_by_all_units():
    problem, weights = data()
    m = unit_matrix(weights, problem)
    torch.testing.assert_close(m, m[:, :1].expand_as(m))
    relu = unit_matrix(weights, problem, activation="relu")
    assert (relu - relu[:, :1]).abs().max() > 0.1
