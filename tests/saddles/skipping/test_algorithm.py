"""The skipping algorithm: the saddles it visits, what decides which unit becomes active, what can go wrong."""

import math

import pytest
import torch

from learning_dynamics.data.published import diagonal_pair, five_point, orthogonal_pair, three_point
from learning_dynamics.problems import Problem, linear_teacher
from learning_dynamics.runtime import Diverged, generator
from learning_dynamics.saddles.skipping.active_descent import gauss_newton, inverse_root
from learning_dynamics.saddles.skipping.algorithm import skip_plateaus
from learning_dynamics.saddles.skipping.clarke import near_kinks, resolve_kinks
from learning_dynamics.saddles.skipping.dormant_units import balance, pair_of_linear_unit
from learning_dynamics.saddles.skipping.objective import Objective, no_units
from learning_dynamics.saddles.skipping.settings import Settings
from learning_dynamics.saddles.theory.staircase import levels, predict_staircase
from learning_dynamics.saddles.two_layer import Weights, gradient

PHASES = {"fast": {}, "gradient_descent": {"phase": "gradient_descent", "step_size": 0.08}}


def teacher(covariance="generic", seed=0, **options):
    options = {"noise": 0.1} | options
    return linear_teacher(generator=generator("skip", seed), covariance=covariance, **options)


CALL = ("activation", "loss", "architecture", "starts", "generator")


def skip(problem, width=10, **options):
    call = {name: options.pop(name) for name in CALL if name in options}
    return skip_plateaus(problem, width=width, settings=Settings(**options), **call)


def relu(problem, seed=0, **options):
    return skip(problem, width=50, activation="relu", generator=generator("skip", seed), **options)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("covariance", ["isotropic", "commuting", "generic"])
def test_linear_nets_visit_every_reduced_rank_level(covariance, phase):
    problem = teacher(covariance)
    found = skip(problem, width=10, **PHASES[phase])
    exact = levels(problem.moments())
    assert found.status == "global"
    assert [s.active for s in found.saddles] == [0, 1, 2, 3, 4]
    for saddle, level in zip(found.saddles, exact, strict=True):
        assert abs(saddle.loss - float(level)) <= 1e-6 * float(level)


@pytest.mark.parametrize("step_size", [None, 0.05])
def test_waiting_times_are_those_of_the_staircase(step_size):
    problem = teacher(seed=1)
    found = skip(problem, width=10, step_size=step_size)
    waiting = torch.tensor([s.escape.waiting for s in found.saddles[:-1]], dtype=torch.float64)
    times = predict_staircase(problem.moments(), step_size).times
    assert torch.allclose(waiting.cumsum(0), times, rtol=1e-4)  # saddles known to 1e-5
    steps = found.saddles[0].plateau_steps(1e-8, 0.05)
    assert steps == pytest.approx(float(waiting[0]) * math.log(1e8) / 0.05)


@pytest.mark.parametrize("phase", [{}, {"phase": "gradient_descent", "step_size": 0.5}])
@pytest.mark.parametrize("seed", [0, 1])
def test_five_points_stop_on_the_kink_then_at_the_line(phase, seed):
    found = relu(five_point(), seed, **phase)
    assert [s.active for s in found.saddles] == [0, 1, 2]
    published = (0.03812, 0.030185279, 0.0278859611)  # mean squared errors, without 1/2
    for saddle, value in zip(found.saddles, published, strict=True):
        assert 2 * saddle.loss == pytest.approx(value, rel=1e-7)
    first = found.saddles[1].weights
    kinks = near_kinks(first.w1, five_point().inputs, 1e-9)
    assert kinks.tolist() == [[False, False, False, False, True]]
    problem, o = five_point(), Objective(five_point(), activation="relu")
    state = o(first)
    assert float(state.gradients.w1.norm()) > 1e-3  # its norm alone would never stop here
    g = -o.residual(state)
    slopes = resolve_kinks(first.units, problem.inputs, g, o.activation, kinks).slopes
    assert float(((slopes * (first.w2.mT @ g)) @ problem.inputs.mT).norm()) < 1e-6


def test_orthogonal_pair_wakes_the_faster_group_first():
    found = relu(orthogonal_pair())
    assert [s.loss for s in found.saddles] == pytest.approx([0.5, 0.25, 0.0], abs=1e-9)
    times = [s.escape.waiting for s in found.saddles[:-1]]
    assert times == pytest.approx([2 / 5**0.5, 2 / 5**0.5])  # drops at 1/1.118 and 1/0.559


def test_three_points_fail_as_gradient_descent_does_unless_the_best_unit_is_taken():
    followed, best = relu(three_point()), relu(three_point(), choice="best")
    assert 2 * followed.saddles[-1].loss == pytest.approx(0.175043, abs=1e-6)
    assert followed.status == "saddle" and best.status == "global"
    assert "gradient descent stays" in followed.certificate.why
    assert best.saddles[-1].loss < 1e-8


def test_a_coordinate_becomes_dormant_and_active_again():
    found = skip(diagonal_pair(), width=2, architecture="diagonal")
    waiting = torch.tensor([s.escape.waiting for s in found.saddles[:-1]])
    published = torch.tensor([0.1930, 0.6002, 3.4574])  # in units of log(1/alpha)
    assert torch.allclose(waiting.cumsum(0), published, atol=5e-5)
    assert [s.removed for s in found.saddles] == [0, 0, 1, 0]
    assert [s.loss for s in found.saddles] == pytest.approx([2.3111, 1.1147, 0.07, 0], abs=1e-4)


def test_without_removal_the_switched_off_coordinate_is_missed():
    options = {"phase": "gradient_descent", "step_size": 0.1, "architecture": "diagonal"}
    kept = skip(diagonal_pair(), width=2, dormant_tolerance=1e-300, **options)
    assert kept.saddles[-1].loss == pytest.approx(0.07, abs=1e-4)
    assert skip(diagonal_pair(), width=2, **options).saddles[-1].loss < 1e-6


def test_loss_along_the_escape_direction_is_quadratic_then_quartic():
    problem = teacher(seed=3)
    o = Objective(problem)
    state = o(no_units(problem))
    direction, rates = pair_of_linear_unit(o, state)

    def loss(size):
        unit = size * direction
        return float(o(Weights(unit[None, :6], unit[6:, None])).loss)

    small = 1e-2
    assert (loss(0.0) - loss(small)) / small**2 == pytest.approx(float(rates[0]) / 2, rel=1e-4)
    size = balance(direction, o, state).size
    assert loss(size) < min(loss(0.99 * size), loss(1.01 * size))


@pytest.mark.parametrize("loss", ["huber", "logistic", "cross_entropy"])
def test_other_losses_end_where_nothing_escapes(loss):
    base = teacher(seed=4, samples=80, output_dim=3, target_spectrum=(3.0, 1.5), noise=2.0)
    targets = base.targets
    if loss == "logistic":
        targets = targets.sign()
    if loss == "cross_entropy":
        targets = torch.nn.functional.one_hot(targets.argmax(0), 3).double().mT.contiguous()
    problem = Problem(base.inputs, targets)
    found = skip(problem, width=10, loss=loss)
    falls = [a.loss - b.loss for a, b in zip(found.saddles, found.saddles[1:], strict=False)]
    assert found.status == "second-order" and len(found.saddles) >= 3 and min(falls) > 0
    o = Objective(problem, loss=loss)
    state = o(found.saddles[-1].weights)
    correlation = problem.inputs @ o.residual(state).mT  # of all maps this is the best (convex)
    assert float(torch.linalg.matrix_norm(correlation, 2)) < 1e-3


@pytest.mark.parametrize("activation", ["tanh", "gelu", "leaky_relu"])
def test_nonlinear_nets_go_down_from_saddle_to_saddle(activation):
    base = teacher(seed=5, target_spectrum=(2.0, 1.0), output_dim=2, noise=0.0, samples=12)
    problem = Problem(base.inputs, torch.tanh(base.targets))  # within a bounded unit's reach
    found = skip(
        problem,
        width=4,
        activation=activation,
        generator=generator("skip", 5),
        max_stages=2,
        tolerance=1e-3,
    )
    losses = [s.loss for s in found.saddles]
    assert len(losses) == 3 and losses[0] > losses[1] > losses[2]
    assert all(s.reached for s in found.saddles)


def test_every_gradient_evaluation_is_counted(monkeypatch):
    spent = []
    for name in ("__call__", "output_gradient"):
        original = getattr(Objective, name)

        def counting(self, *args, original=original):
            spent.append(1)
            return original(self, *args)

        monkeypatch.setattr(Objective, name, counting)
    found = skip(teacher(), width=10)
    drops = len(found.saddles) - 1
    expected = (
        len(spent) - 2 * drops + 1
    )  # each drop starts where its search ended; whitening is one
    assert float(found.path.evaluations[-1]) == expected == found.saddles[-1].evaluations
    assert found.path.svds == 4


def test_a_pass_is_shared_only_where_the_outputs_are_the_known_ones():
    problem = teacher()
    o = Objective(problem)
    w = Weights(torch.ones(1, 6).double(), torch.ones(4, 1).double())
    outputs = w.w2 @ w.w1 @ problem.inputs
    o(w, outputs)
    assert o.gradients == 0
    o(w, 1.001 * outputs)
    o(w)
    assert o.gradients == 2


def test_a_jump_of_another_size_pays_for_its_own_evaluation():
    full, half = (skip(teacher(), width=10, max_stages=1, jump=j) for j in (1.0, 0.5))
    assert full.path.evaluations[1] == full.path.evaluations[0] + 1
    assert half.path.evaluations[1] == half.path.evaluations[0] + 2


def test_gauss_newton_is_the_hessian_where_the_loss_is_zero():
    problem = teacher(noise=0.0)
    draw = generator("skip", 11)
    w1, w2 = (torch.randn(s, generator=draw, dtype=torch.float64) for s in ((2, 6), (3, 2)))
    targets = w2 @ w1 @ problem.inputs

    def loss(flat):
        f = flat[12:].reshape(3, 2) @ flat[:12].reshape(2, 6) @ problem.inputs
        return 0.5 * (f - targets).square().sum(0).mean()

    exact = torch.autograd.functional.hessian(loss, torch.cat([w1.flatten(), w2.flatten()]))
    moment = problem.inputs @ problem.inputs.mT / problem.inputs.shape[-1]
    metric = gauss_newton(Weights(w1, w2), moment, 1.0)
    assert torch.allclose(metric, exact, rtol=1e-10, atol=1e-10)
    root, inverse = inverse_root(metric)
    assert torch.allclose(root @ inverse, torch.eye(18, dtype=torch.float64), atol=1e-10)
    least, most = torch.linalg.eigvalsh(root @ root)[[0, -1]]
    assert float(least / most) == pytest.approx(0.1)


def test_an_evaluation_is_that_of_the_kernel():
    problem = teacher(output_dim=4)
    draw = generator("skip", 9)
    w = Weights(
        torch.randn(5, 6, generator=draw).double(), torch.randn(4, 5, generator=draw).double()
    )
    for activation, loss in (("relu", "squared"), ("tanh", "huber")):
        ours = Objective(problem, activation=activation, loss=loss)(w)
        kernel = gradient(w, problem, activation=activation, loss=loss)
        assert torch.allclose(ours.gradients.w1, kernel.gradients.w1, rtol=1e-13, atol=1e-14)
        assert torch.allclose(ours.gradients.w2, kernel.gradients.w2, rtol=1e-13, atol=1e-14)


def test_tied_rates_are_reported_and_taken_one_after_the_other():
    problem = teacher("isotropic", target_spectrum=(2.0, 2.0, 1.0), noise=0.0)
    found = skip(problem, width=10)
    assert [s.active for s in found.saddles] == [0, 1, 2, 3]
    assert found.saddles[0].escape.tied and not found.saddles[1].escape.tied
    assert found.saddles[1].escape.waiting == pytest.approx(0.0, abs=1e-9)


def test_more_stages_than_units_or_than_asked_for():
    narrow = skip(teacher(), width=2)  # the best map of rank two
    assert narrow.status == "second-order" and narrow.certificate.gap > 1e-3
    short = skip(teacher(), width=10, max_stages=1)
    assert short.status == "stages-exhausted" and len(short.saddles) == 2
    stuck = skip(teacher(), width=10, phase="gradient_descent", step_size=0.05, max_steps=3)
    assert stuck.status == "stalled" and not stuck.saddles[-1].reached


def test_a_step_that_is_too_large_is_an_error_not_a_nan():
    with pytest.raises(Diverged, match="run 0 diverged at step"):
        skip(teacher(), width=10, phase="gradient_descent", step_size=2.0)
