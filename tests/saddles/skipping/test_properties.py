"""What holds on every problem: units, order, processes and threads do not matter, no loss rises."""

import os
import subprocess
import sys

import pytest
import torch

from learning_dynamics.losses import squared
from learning_dynamics.problems import Problem, random_orthogonal, random_two_layer
from learning_dynamics.runtime import generator
from learning_dynamics.saddles import Settings, Weights, certify, gradient_descent, skip_plateaus


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
    settings = Settings(max_steps=1000, max_stages=4)
    return skip_plateaus(
        problem,
        width=len(starts),
        activation=activation,
        loss=loss,
        starts=starts,
        settings=settings,
    )


def changed(problem, starts, change, g):
    """The same problem in other units, axes or order: problem, starts, and what L is divided by."""
    x, y, m0 = problem.inputs, problem.targets, len(problem.inputs)
    a, b = starts[:, :m0], starts[:, m0:]
    if change == "targets":
        return Problem(x, 1e-12 * y), starts, 1e-24
    if change == "inputs":
        return Problem(1e150 * x, y), starts, 1.0
    if change == "both":
        return Problem(1e-7 * x, 1e-7 * y), starts, 1e-14
    if change == "axes":
        p, q = (random_orthogonal(k, g) for k in (m0, len(y)))
        return Problem(p @ x, q @ y), torch.cat([a @ p.mT, b @ q.mT], 1), 1.0
    if change == "order":
        samples = torch.randperm(x.shape[1], generator=g)
        units = torch.randperm(len(starts), generator=g)
        return Problem(x[:, samples], y[:, samples]), starts[units], 1.0
    if change == "twice":
        return Problem(torch.cat([x, x], 1), torch.cat([y, y], 1)), starts, 1.0
    zero = torch.zeros(1, x.shape[1], dtype=x.dtype)
    return Problem(torch.cat([x, zero]), y), torch.cat([a, 0 * a[:, :1], b], 1), 1.0


CHANGES = ("targets", "inputs", "both", "axes", "order", "twice", "zero feature")


@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize("seed", range(4))
def test_units_axes_order_and_copies_of_the_data_change_nothing(activation, seed):
    problem, starts = draw(seed)
    first = run(problem, starts, activation)
    for change in CHANGES:
        g = generator("skip/properties/change", seed)
        other, their, unit = changed(problem, starts, change, g)
        found = run(other, their, activation)
        assert found.status == first.status, change
        losses = torch.tensor(found.losses, dtype=torch.float64) / unit
        wanted = torch.tensor(first.losses, dtype=torch.float64)
        assert torch.allclose(losses, wanted, rtol=0, atol=1e-9 * float(wanted[0])), change


@pytest.mark.parametrize("seed", range(6))
def test_no_loss_rises_and_a_certified_end_is_not_left(seed):
    """From beside it, copies apart, gradient descent gains less than 1e-6 of the first loss."""
    problem, starts = draw(seed)
    found = run(problem, starts)
    assert all(a >= b for a, b in zip(found.losses, found.losses[1:], strict=False))
    assert found.status in ("global", "second-order", "saddle", "stalled", "stages-exhausted")
    if not found.certificate.holds:
        return
    g, w = generator("skip/properties/beside", seed), found.weights
    units = (w.units / 2**0.5).repeat(2, 1)
    shift = torch.randn(units.shape, generator=g, dtype=torch.float64)
    units = units + 1e-3 * units.norm(dim=1, keepdim=True) * shift
    m0 = len(problem.inputs)
    after = gradient_descent(
        Weights(units[None, :, :m0].contiguous(), units[None, :, m0:].mT.contiguous()),
        problem,
        step_size=0.2 / float(problem.inputs.square().mean() * m0 * units.norm()),
        steps=4000,
        activation="relu",
        record_at=torch.tensor([4000]),
    )
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
    seen = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT, threads, size],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for threads, size, seed in (("1", "1", "0"), ("2", "1001", "7"))
    }
    assert len(seen) == 1


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


def test_weights_of_entries_are_in_the_units_of_the_targets():
    problem, starts = draw(1)
    loss = squared(torch.rand(problem.targets.shape, generator=generator("w")).double())
    first = run(problem, starts, "linear", loss)
    small = run(Problem(problem.inputs, 1e-9 * problem.targets), starts, "linear", loss)
    assert small.status == first.status
    assert [v * 1e18 for v in small.losses] == pytest.approx(first.losses, abs=1e-9)


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


def test_an_escape_within_rounding_errors_ends_with_a_status():
    """Separable labels: the rates that are left are above the threshold, and nothing falls."""
    task = random_two_layer(generator("random-two-layer", 135))
    options = {"activation": task.activation, "loss": task.loss, "width": task.width}
    found = skip_plateaus(task.problem, generator=generator("start", 135), **options)
    assert found.status == "no-minimum" and found.losses[-1] < 1e-6 * found.losses[0]


def test_a_valley_that_leads_away_is_no_minimum():
    """Labels that can partly be separated: the loss still falls where its slope is tiny."""
    task = random_two_layer(generator("random-two-layer", 47))
    options = {"activation": task.activation, "loss": task.loss, "width": task.width}
    found = skip_plateaus(task.problem, generator=generator("start", 47), **options)
    assert found.status == "stalled" and "ends lower" in found.certificate.why


@pytest.mark.parametrize("turn", [0.0, 0.7, 2.0])
def test_where_modes_cannot_mix_the_path_rests_as_gradient_descent_does(turn):
    """Mode 1 has the larger correlation, mode 2 the larger gain: rank one rests at mode 1; turned by
    a millionth away from commuting, it slides to the best map of rank one."""
    at = torch.tensor(turn, dtype=torch.float64)
    axes = torch.stack([torch.stack([at.cos(), -at.sin()]), torch.stack([at.sin(), at.cos()])])
    stretch, teacher = (
        torch.tensor(x, dtype=torch.float64).diag() for x in ([8.0, 1.0], [0.6, 3.0])
    )
    for off, level in ((0.0, 2.25), (1e-6, 0.72)):
        nudge = torch.tensor([[1.0, -off], [off, 1.0]], dtype=torch.float64)
        inputs = axes @ nudge @ stretch.sqrt()
        targets = teacher @ axes.mT @ inputs
        path = skip_plateaus(Problem(inputs, targets), width=4)
        assert path.losses[1] == pytest.approx(level, rel=1e-4)
        assert path.status == "global" and path.losses[2] < 1e-9
    alone = skip_plateaus(Problem(axes @ stretch.sqrt(), teacher @ stretch.sqrt()), width=1)
    assert alone.status == "second-order"
    assert alone.losses[-1] == pytest.approx(
        0.72, rel=1e-9
    )  # no dormant unit is left to leave first
