"""The skipping algorithm: the saddles it visits, what decides which unit becomes active, what can go wrong."""

import math
import os
import subprocess
import sys

import pytest
import torch

from learning_dynamics.data.published import diagonal_pair, five_point, orthogonal_pair, three_point
from learning_dynamics.losses import loss as find_loss
from learning_dynamics.losses import squared
from learning_dynamics.problems import Problem, linear_teacher, random_orthogonal, random_two_layer
from learning_dynamics.runtime import Diverged, generator
from learning_dynamics.saddles.skipping.algorithm import certify, skip_plateaus
from learning_dynamics.saddles.skipping.dormant_units import balance, pair_of_linear_unit
from learning_dynamics.saddles.skipping.objective import Objective, no_units
from learning_dynamics.saddles.skipping.settings import Settings
from learning_dynamics.saddles.theory.staircase import levels, predict_staircase
from learning_dynamics.saddles.two_layer import Weights, gradient, gradient_descent

STEPS = {"phase": "gradient_descent", "step_size": 0.08}  # the thesis's own descent


def teacher(covariance="generic", seed=0, **options):
    options = {"noise": 0.1} | options
    return linear_teacher(generator=generator("skip", seed), covariance=covariance, **options)


CALL = ("activation", "loss", "architecture", "generator")


def skip(problem, width=10, **options):
    call = {name: options.pop(name) for name in CALL if name in options}
    return skip_plateaus(problem, width=width, settings=Settings(**options), **call)


def relu(problem, seed=0, **options):
    return skip(problem, width=50, activation="relu", generator=generator("skip", seed), **options)


@pytest.mark.parametrize("phase", [{}, STEPS])
@pytest.mark.parametrize("covariance", ["isotropic", "commuting", "generic"])
def test_linear_nets_visit_every_reduced_rank_level(covariance, phase):
    problem = teacher(covariance)
    found = skip(problem, **phase)
    assert found.status == "global"
    assert [s.active for s in found.saddles] == [0, 1, 2, 3, 4]
    assert found.losses == pytest.approx(levels(problem.moments()).tolist(), rel=1e-6)


@pytest.mark.parametrize("step_size", [None, 0.05])
def test_waiting_times_are_those_of_the_staircase(step_size):
    problem = teacher(seed=1)
    found = skip(problem, step_size=step_size)
    waiting = torch.tensor([s.escape.waiting for s in found.saddles[:-1]], dtype=torch.float64)
    times = predict_staircase(problem.moments(), step_size).times
    assert torch.allclose(waiting.cumsum(0), times, rtol=1e-4)  # saddles known to 1e-5
    steps = found.saddles[0].plateau_steps(1e-8, 0.05)
    assert steps == pytest.approx(float(waiting[0]) * math.log(1e8) / 0.05)


@pytest.mark.parametrize("phase", [{}, STEPS | {"step_size": 0.5}])
@pytest.mark.parametrize("seed", [0, 1])
def test_five_points_stop_on_the_kink_then_at_the_line(phase, seed):
    found = relu(five_point(), seed, **phase)
    assert [s.active for s in found.saddles] == [0, 1, 2]
    published = [0.03812, 0.030185279, 0.0278859611]  # mean squared errors, without 1/2
    assert [2 * loss for loss in found.losses] == pytest.approx(published, rel=1e-7)
    first, problem = found.saddles[1].weights, five_point()
    share = (first.w1 @ problem.inputs)[0].abs() / first.w1.norm() / problem.inputs.norm(dim=0)
    assert (share <= 1e-9).tolist() == [False, False, False, False, True]
    found = gradient(first, problem, activation="relu").gradients
    assert float(found.w1.norm()) > 1e-3  # its norm alone would never stop here
    assert certify(problem, first, activation="relu").gradient < 1e-6  # the smallest of Clarke's


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
    options = STEPS | {"step_size": 0.1, "architecture": "diagonal"}
    kept = skip(diagonal_pair(), width=2, dormant_tolerance=1e-300, **options)
    assert kept.saddles[-1].loss == pytest.approx(0.07, abs=1e-4)
    assert skip(diagonal_pair(), width=2, **options).saddles[-1].loss < 1e-6


@pytest.mark.parametrize("loss", ["huber", "logistic", "cross_entropy"])
def test_other_losses_end_where_nothing_escapes(loss):
    base = teacher(seed=4, samples=80, output_dim=3, target_spectrum=(3.0, 1.5), noise=2.0)
    targets = base.targets
    if loss == "logistic":
        targets = targets.sign()
    if loss == "cross_entropy":
        targets = torch.nn.functional.one_hot(targets.argmax(0), 3).double().mT.contiguous()
    problem = Problem(base.inputs, targets)
    found = skip(problem, loss=loss)
    assert found.status == "second-order" and len(found.saddles) >= 3
    assert found.losses == sorted(set(found.losses), reverse=True)
    f = (found.weights.w2 @ found.weights.w1 @ problem.inputs).requires_grad_()
    find_loss(loss).value(f, problem.targets).backward()
    # of all maps this is the best (convex)
    assert float(torch.linalg.matrix_norm(problem.inputs @ f.grad.mT, 2)) < 1e-3


def test_every_gradient_evaluation_is_counted(monkeypatch):
    spent = []
    for name in ("__call__", "output_gradient"):
        original = getattr(Objective, name)

        def counting(self, *args, original=original):
            spent.append(1)
            return original(self, *args)

        monkeypatch.setattr(Objective, name, counting)
    found = skip(teacher())
    # each drop starts where its search ended; whitening is one
    expected = len(spent) - 2 * (len(found.saddles) - 1) + 1
    assert float(found.path.evaluations[-1]) == expected == found.saddles[-1].evaluations
    assert found.path.svds == 4


def test_a_jump_of_another_size_pays_for_its_own_evaluation():
    full, half = (skip(teacher(), max_stages=1, jump=j) for j in (1.0, 0.5))
    assert full.path.evaluations[1] == full.path.evaluations[0] + 1
    assert half.path.evaluations[1] == half.path.evaluations[0] + 2


def test_tied_rates_are_reported_and_taken_one_after_the_other():
    found = skip(teacher("isotropic", target_spectrum=(2.0, 2.0, 1.0), noise=0.0))
    assert [s.active for s in found.saddles] == [0, 1, 2, 3]
    assert found.saddles[0].escape.tied and not found.saddles[1].escape.tied
    assert found.saddles[1].escape.waiting == pytest.approx(0.0, abs=1e-9)


def test_more_stages_than_units_or_than_asked_for():
    narrow = skip(teacher(), width=2)  # the best map of rank two
    assert narrow.status == "second-order" and narrow.certificate.gap > 1e-3
    short = skip(teacher(), max_stages=1)
    assert short.status == "stages-exhausted" and len(short.saddles) == 2
    stuck = skip(teacher(), **STEPS, max_steps=3)
    assert stuck.status == "stalled" and not stuck.saddles[-1].reached
    with pytest.raises(Diverged, match="run 0 diverged at step"):
        skip(teacher(), **STEPS | {"step_size": 2.0})


def draw(seed):
    """Inputs with a bias, samples fewer or more than them, one to three outputs, width, starts."""
    g = generator("skip/properties", seed)
    m0, m2, n = (int(torch.randint(*r, (1,), generator=g)) for r in ((2, 5), (1, 4), (4, 14)))
    x = torch.randn(m0, n, generator=g, dtype=torch.float64)
    x = torch.cat([x, torch.ones(1, n, dtype=torch.float64)])
    inner = torch.randn(2, m0 + 1, generator=g, dtype=torch.float64)
    outer = torch.randn(m2, 2, generator=g, dtype=torch.float64)
    starts = torch.randn(8, m0 + 1 + m2, generator=g, dtype=torch.float64)
    return Problem(x, outer @ torch.relu(inner @ x)), starts


def run(problem, starts, activation="relu", loss="squared"):
    options = {"loss": loss, "starts": starts, "settings": Settings(max_steps=1000, max_stages=4)}
    return skip_plateaus(problem, width=len(starts), activation=activation, **options)


#: What X and Y are multiplied by.
SIZES = ((1.0, 1e-12), (1e150, 1.0), (1e-7, 1e-7))


@pytest.mark.parametrize("activation", ["linear", "relu", "linear, weighted"])
@pytest.mark.parametrize("seed", range(4))
def test_units_axes_order_and_copies_of_the_data_change_nothing(activation, seed):
    (problem, starts), loss = draw(seed), "squared"
    x, y, a, b = problem.inputs, problem.targets, starts[:, :1], starts[:, 1:]
    if "weighted" in activation:
        loss = squared(torch.rand(y.shape, generator=generator("w")).double())
    activation = activation.split(",")[0]
    first = run(problem, starts, activation, loss)
    cases = [(Problem(p * x, q * y), starts, q * q) for p, q in SIZES]
    cases.append((Problem(torch.cat([0 * x[:1], x]), y), torch.cat([0 * a, a, b], 1), 1.0))
    if loss == "squared":  # the weights belong to samples and outputs
        g, m0 = generator("skip/properties/change", seed), len(x)
        p, q = (random_orthogonal(k, g) for k in (m0, len(y)))
        turned = torch.cat([starts[:, :m0] @ p.mT, starts[:, m0:] @ q.mT], 1)
        samples, units = (torch.randperm(k, generator=g) for k in (x.shape[1], len(starts)))
        cases += [
            (Problem(p @ x, q @ y), turned, 1.0),
            (Problem(x[:, samples], y[:, samples]), starts[units], 1.0),
            (Problem(torch.cat([x, x], 1), torch.cat([y, y], 1)), starts, 1.0),
        ]
    for other, their, unit in cases:
        found = run(other, their, activation, loss)
        losses = [value / unit for value in found.losses]
        assert found.status == first.status
        assert losses == pytest.approx(first.losses, rel=0, abs=1e-9 * first.losses[0])


@pytest.mark.parametrize("seed", range(6))
def test_no_loss_rises_and_a_certified_end_is_not_left(seed):
    """From beside it, copies apart, gradient descent gains less than 1e-6 of the first loss."""
    problem, starts = draw(seed)
    found = run(problem, starts)
    assert found.losses == sorted(found.losses, reverse=True)
    if not found.certificate.holds:
        return
    g, w = generator("skip/properties/beside", seed), found.weights
    units = (w.units / 2**0.5).repeat(2, 1)
    shift = torch.randn(units.shape, generator=g, dtype=torch.float64)
    units = units + 1e-3 * units.norm(dim=1, keepdim=True) * shift
    m0 = len(problem.inputs)
    step_size = 0.2 / float(problem.inputs.square().mean() * m0 * units.norm())
    options = {"steps": 4000, "activation": "relu", "record_at": torch.tensor([4000])}
    beside = Weights(units[None, :, :m0].contiguous(), units[None, :, m0:].mT.contiguous())
    after = gradient_descent(beside, problem, step_size=step_size, **options)
    assert found.loss - float(after["loss"]) <= 1e-6 * found.losses[0]


SCRIPT = """
import sys, torch
torch.set_num_threads(int(sys.argv[1]))
keep = [torch.zeros(int(sys.argv[2]))]  # other addresses
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator
from learning_dynamics.saddles import Settings, skip_plateaus
g = generator("skip/integers", 0)
x = torch.randint(-2, 3, (3, 9), generator=g).double()
y = torch.randint(-1, 2, (2, 9), generator=g).double()
starts = torch.randint(-2, 3, (8, 5), generator=g).double() + 0.5
found = skip_plateaus(Problem(x, y), width=8, activation="relu", starts=starts,
                      settings=Settings(max_steps=1000, max_stages=5))
print(found.status, *(loss.hex() for loss in found.losses))
"""


def test_every_process_and_number_of_threads_gives_the_same_numbers():
    one, two = (
        subprocess.check_output(
            [sys.executable, "-c", SCRIPT, *how], env=os.environ | {"PYTHONHASHSEED": seed}
        )
        for seed, *how in (("0", "1", "1"), ("7", "2", "1001"))
    )
    assert one == two


def test_the_end_of_another_method_is_judged_by_the_same_certificate():
    problem, _ = draw(0)
    m0, m2 = len(problem.inputs), len(problem.targets)
    nothing = Weights(torch.zeros(3, m0).double(), torch.zeros(m2, 3).double())
    assert certify(problem, nothing).status == "saddle"
    best = problem.targets @ torch.linalg.pinv(problem.inputs)
    eye = torch.eye(m2, dtype=torch.float64)
    assert certify(problem, Weights(best, eye)).status == "global"
    assert certify(problem, Weights(best.roll(1, 1), eye)).status == "unknown"


def test_separable_labels_have_no_minimum_and_others_may():
    x = torch.tensor([[1.0, 2.0, -1.0, -2.0]], dtype=torch.float64)
    settings = Settings(max_steps=200)
    for y, status in ((x.sign(), "no-minimum"), (x.sign().roll(1, 1), "second-order")):
        found = skip_plateaus(Problem(x, y), width=2, loss="logistic", settings=settings)
        assert found.status == status


@pytest.mark.parametrize("activation", ["linear", "relu", "tanh"])
def test_where_there_is_nothing_to_learn_it_ends_at_once(activation):
    x, y = torch.eye(3, 9).double(), torch.eye(2, 9).double()
    # All dormant units of one sign: none of them grows along positive inputs.
    starts = torch.cat([-torch.ones(2, 3), torch.eye(2)], 1).double()
    for problem, loss in ((Problem(x, 0 * y), 0.0), (Problem(0 * x, y), 1 / 9)):
        found = skip_plateaus(problem, width=4, activation=activation, starts=starts)
        assert found.losses == [pytest.approx(loss)] and found.status != "saddle"
        assert found.saddles[0].plateau_steps(1e-8, 0.1) == torch.inf


@pytest.mark.parametrize("seed, status, words", [(135, "no-minimum", ""), (47, "stalled", "lower")])
def test_an_escape_within_rounding_errors_and_a_valley_that_leads_away_are_no_minimum(
    seed, status, words
):
    """Separable labels: the rates that are left are above the threshold, and nothing falls. Labels
    that can partly be separated: the loss still falls where its slope is tiny."""
    task = random_two_layer(generator("random-two-layer", seed))
    options = {"activation": task.activation, "loss": task.loss, "width": task.width}
    found = skip_plateaus(task.problem, generator=generator("start", seed), **options)
    assert found.status == status and words in found.certificate.why


@pytest.mark.parametrize("turn", [0.0, 0.7, 2.0])
def test_where_modes_cannot_mix_the_path_rests_as_gradient_descent_does(turn):
    """Mode 1 has the larger correlation, mode 2 the larger gain: rank one rests at mode 1; turned by
    a millionth away from commuting, it slides to the best map of rank one."""

    def matrix(*rows):
        return torch.tensor(rows, dtype=torch.float64)

    at = math.cos(turn), math.sin(turn)
    axes = matrix((at[0], -at[1]), (at[1], at[0]))
    stretch, teacher = matrix(8.0, 1.0).diag(), matrix(0.6, 3.0).diag()
    for off, level in ((0.0, 2.25), (1e-6, 0.72)):
        inputs = axes @ matrix((1.0, -off), (off, 1.0)) @ stretch.sqrt()
        targets = teacher @ axes.mT @ inputs
        path = skip_plateaus(Problem(inputs, targets), width=4)
        assert path.losses[1] == pytest.approx(level, rel=1e-4)
        assert path.status == "global" and path.losses[2] < 1e-9
    alone = skip_plateaus(Problem(axes @ stretch.sqrt(), teacher @ stretch.sqrt()), width=1)
    assert alone.status == "second-order"
    # no dormant unit is left to leave first
    assert alone.losses[-1] == pytest.approx(0.72, rel=1e-9)


def degenerate():
    """Problems in which something is missing or equal, of every activation and loss."""
    g = generator("skip/properties/degenerate")
    x, y = (torch.randn(m, 9, generator=g, dtype=torch.float64) for m in (3, 2))
    data = {
        "no input": (0 * x, y),
        "no target": (x, 0 * y),
        "one positive input": (x[:1].abs(), y),
        "one sample": (x[:, :1], y[:, :1]),
        "equal samples": (x[:, :1].repeat(1, 5), y[:, :1].repeat(1, 5)),
        "equal inputs": (x[:1].repeat(3, 1), y),
    }
    for name, (inputs, targets) in data.items():
        for activation in ("linear", "relu", "tanh"):
            for loss in ("squared", "huber", "logistic"):
                labels = torch.where(targets >= 0, 1.0, -1.0).double()
                problem = Problem(inputs, labels if loss == "logistic" else targets)
                yield pytest.param(problem, activation, loss, id=f"{name}-{activation}-{loss}")


@pytest.mark.parametrize("problem,activation,loss", list(degenerate()))
def test_degenerate_data_end_with_a_status(problem, activation, loss):
    # All dormant units of one sign: in places none of them can grow, and no unit is active.
    starts = torch.cat([-torch.ones(2, len(problem.inputs)), torch.eye(2)], 1).double()
    options = {"activation": activation, "loss": loss, "starts": starts}
    options["settings"] = Settings(max_steps=200, max_stages=2)
    found = skip_plateaus(problem, width=4, **options)
    assert found.status in (
        *("global", "second-order", "no-minimum"),
        *("saddle", "stalled", "stages-exhausted"),
    )
    assert all(a >= b for a, b in zip(found.losses, found.losses[1:], strict=False))
    path = found.path
    assert torch.isfinite(path.losses).all() and (path.evaluations.diff() >= 0).all()
    if not problem.targets.any():
        assert found.status == "global" and found.losses == [0.0]
        assert found.saddles[0].plateau_steps(1e-8, 0.1) == torch.inf


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
