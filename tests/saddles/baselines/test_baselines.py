"""Each baseline does what its paper says, seen through one common counter."""

import pytest
import torch

from learning_dynamics.data.published import diagonal_pair, three_point
from learning_dynamics.problems import linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.baselines import optimizers
from learning_dynamics.saddles.baselines.growing_networks import (
    alternating_flows,
    gradmax,
    greedy_low_rank,
    greedy_steps,
    neuron_pursuit,
    tiny,
)
from learning_dynamics.saddles.baselines.rank_one_pursuit import rank_one_pursuit
from learning_dynamics.saddles.theory.staircase import levels
from learning_dynamics.saddles.two_layer import Weights
from learning_dynamics.saddles.two_layer import gradient_descent as ensemble


def teacher(covariance="generic"):
    draw = generator("rivals/test", 0)
    options = {"noise": 0.1, "target_spectrum": (3.0, 1.0), "output_dim": 3}
    return linear_teacher(generator=draw, covariance=covariance, **options)


def plain(method, problem, seed=0, **options):
    return method(problem, width=6, generator=generator("rivals/start", seed), **options)


def saddle_losses(path):
    return path.losses[list(path.saddles)]


def test_gradient_descent_is_that_of_the_ensemble_kernel():
    problem = teacher()
    path = plain(optimizers.gradient_descent, problem, step_size=0.1, init_scale=0.1, max_steps=50)
    w = torch.randn(1, 6, 9, generator=generator("rivals/start", 0), dtype=torch.float64) * 0.1
    weights = Weights(w[..., :6].contiguous(), w[..., 6:].mT.contiguous())
    run = ensemble(weights, problem, step_size=0.1, steps=50, record_at=torch.arange(51))
    assert torch.allclose(path.losses, run["loss"][0], rtol=1e-12)
    assert path.evaluations.tolist() == list(range(1, 52))


def test_heavy_ball_shortens_the_plateau_to_one_minus_momentum():
    problem = teacher()
    middle = levels(problem.moments())[:2].mean()
    options = {"step_size": 0.004, "max_steps": 3000, "stop_loss": float(middle)}
    slow = plain(optimizers.gradient_descent, problem, **options)
    fast = plain(optimizers.heavy_ball, problem, momentum=0.6, **options)
    assert len(fast.losses) / len(slow.losses) == pytest.approx(0.4, abs=0.04)


def test_normalised_descent_does_not_feel_the_initial_scale():
    problem, first = teacher(), levels(teacher().moments())
    options = {"step_size": 0.05, "max_steps": 600, "stop_loss": float(first[:2].mean())}

    def drops(method, **more):
        scales = (1e-6, 1e-12)
        return [len(plain(method, problem, init_scale=e, **options, **more).losses) for e in scales]

    at, gd = drops(optimizers.normalised_descent, length=0.02), drops(optimizers.gradient_descent)
    assert abs(at[0] - at[1]) <= 2 and gd[1] > 1.8 * gd[0]


def test_spectral_steps_raise_all_modes_together():
    problem = teacher("isotropic")
    path = plain(optimizers.spectral_descent, problem, step_size=0.01, max_steps=400)
    s = torch.linalg.svdvals(path.outputs[100] / problem.inputs.shape[1] ** 0.5)
    slow = plain(optimizers.gradient_descent, problem, step_size=0.1, max_steps=300)
    passed = (slow.losses <= path.losses[100]).nonzero()[0, 0]
    t = torch.linalg.svdvals(slow.outputs[passed] / problem.inputs.shape[1] ** 0.5)
    assert float(s[1] / s[0]) > 0.5 and float(t[1] / t[0]) < 0.05


def test_tiny_is_reduced_rank_regression_without_any_descent():
    problem = teacher()
    path = tiny(problem, width=3, step_size=0.1, tolerance=1e-6)
    exact = levels(problem.moments())
    assert torch.allclose(saddle_losses(path), exact, rtol=1e-9)
    assert float(path.evaluations[-1]) <= 3 * len(exact)


@pytest.mark.parametrize("method", [greedy_low_rank, gradmax, neuron_pursuit, alternating_flows])
def test_growing_methods_visit_the_levels(method):
    problem, options = teacher(), {"size": 0.3} if method is gradmax else {}
    if method in (neuron_pursuit, alternating_flows):
        options["generator"] = generator("rivals/start", 0)
    path = method(problem, width=2, step_size=0.15, tolerance=1e-3, **options)
    assert torch.allclose(saddle_losses(path), levels(problem.moments())[:3], rtol=1e-4)


def test_fixed_numbers_of_steps_miss_the_levels_when_too_few():
    problem, exact = teacher(), levels(teacher().moments())
    short = saddle_losses(greedy_steps(problem, width=2, step_size=0.1, steps=20))
    enough = saddle_losses(greedy_steps(problem, width=2, step_size=0.15, steps=300))
    assert float(short[1] / exact[1]) > 1.001
    assert torch.allclose(enough, exact[:3], rtol=1e-4)


def test_fixed_spans_miss_the_levels_of_anisotropic_inputs_only():
    for covariance, wrong in (("isotropic", False), ("generic", True)):
        problem = teacher(covariance)
        found = saddle_losses(rank_one_pursuit(problem, width=3))
        assert (float(found[1] / levels(problem.moments())[1]) > 1.02) == wrong


def test_neuron_pursuit_finds_what_gradient_descent_never_wakes():
    problem = three_point()
    common = {"step_size": 0.5, "activation": "relu"}
    options = {"tolerance": 1e-3, "least_rate": 1e-2, "max_steps": 1500, "stop_loss": 1e-5}
    path = plain(neuron_pursuit, problem, seed=1, **common, **options)
    gd = plain(optimizers.gradient_descent, problem, max_steps=600, init_scale=1e-6, **common)
    assert float(path.losses[-1]) < 1e-3
    assert 2 * float(gd.losses[-1]) == pytest.approx(0.175043, abs=1e-5)


def test_alternating_flows_of_a_linear_net_know_no_scale():
    options = {"step_size": 0.15, "tolerance": 1e-2}
    first, second = (
        plain(alternating_flows, teacher(), init_scale=e, **options) for e in (1e-4, 1e-8)
    )
    assert torch.equal(first.losses, second.losses)
    assert torch.equal(first.evaluations, second.evaluations)


def test_gradient_descent_of_the_diagonal_net_switches_a_coordinate_off():
    problem = diagonal_pair()
    options = {"step_size": 0.1, "init_scale": 1e-3, "max_steps": 3000, "stop_loss": 1e-6}
    path = plain(optimizers.gradient_descent, problem, diagonal=True, **options)
    beta = path.outputs[:, 0] @ torch.linalg.inv(problem.inputs)
    assert float(beta[:, 0].max()) > 0.02 or float(beta[:, 0].min()) < -0.02
    assert float(path.losses[-1]) <= 1e-6
