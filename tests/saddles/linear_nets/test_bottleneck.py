"""Wide layers integrated out: the same runs as the full network, at any width."""

import math

import pytest
import torch

from learning_dynamics.kernels.polar import CUTOFF
from learning_dynamics.problems import linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.linear_nets.bottleneck import (
    Module,
    draw_cores,
    draw_modules,
    train_modules,
)
from learning_dynamics.scales.parametrizations import scheme
from learning_dynamics.scales.training import initialise, sgd


def teacher():
    spectra = {"input_spectrum": (2.0, 1.0, 0.5), "target_spectrum": (2.0, 1.0)}
    draw = generator("together/modules")
    return linear_teacher(generator=draw, samples=12, output_dim=2, **spectra)


def factor(*values):
    return torch.tensor(values, dtype=torch.float64)


def modules_of(weights):
    return [Module(b @ a, a.mT @ a, b @ b.mT) for a, b in zip(*[iter(weights)] * 2, strict=True)]


@pytest.mark.parametrize("name", ["spectral", "dp(1/2)", "dp(0)"])
def test_the_reduction_is_exact(name):
    problem, steps = teacher(), 40
    p = scheme(name)((3, 60, 5, 60, 5, 60, 2), 1.0)
    start = initialise(p.widths, p.weight_stds, [0, 1], dtype=torch.float64)
    common, whole = {"steps": steps, "step_size": 0.05}, factor(*[math.prod(p.multipliers)] * 2)
    modules = modules_of(start.weights)
    course = train_modules(modules, problem.moments(), multiplier=whole, **common)
    common |= {"evaluate": {"train": problem}, "record": range(steps + 1), "seeds": [0, 1]}
    run = sgd(problem, start, p.multipliers, batch_size=12, activation="linear", **common)
    torch.testing.assert_close(course.loss, run["train_loss"], rtol=1e-10, atol=1e-12)
    assert float(course.loss[0, 0] - course.loss[0, -1]) > 1e-6  # something was learned


@pytest.mark.parametrize("spectrum", [(3.0, 1.5, 0.6), (1.0, 0.1, 1e-3), (1, 0.1, 1e-3, 1e-5)])
@pytest.mark.parametrize("modules", [1, 2, 3])
def test_polar_steps_close_on_the_modules(spectrum, modules):
    """The reference takes autograd's gradients and singular value decompositions of the full net.

    Its gap is 2e-10 where a singular value comes near the cutoff, 1e-13 elsewhere."""
    draw = generator("polar-modules")
    problem = linear_teacher(generator=draw, target_spectrum=spectrum, samples=12)
    widths, steps, eta = (6, *[80, 8] * (modules - 1), 80, 4), 50, 0.03
    p = scheme("spectral")(widths, 1.0)
    start = initialise(widths, p.weight_stds, [0], dtype=torch.float64).weights
    lengths = torch.linspace(0.7, 1.3, 2 * modules, dtype=torch.float64)
    direct, losses = [w[0].clone().requires_grad_() for w in start], []
    for _ in range(steps + 1):
        f = math.prod(p.multipliers) * problem.inputs
        for w in direct:
            f = w @ f
        loss = 0.5 * (f - problem.targets).square().sum(0).mean()
        losses.append(float(loss.detach()))
        for w, g, r in zip(direct, torch.autograd.grad(loss, direct), lengths, strict=True):
            u, s, v = torch.linalg.svd(g, full_matrices=False)
            w.data -= eta * r * (u * (s > CUTOFF * s[0])) @ v
    options = {"steps": steps, "step_size": eta, "polar": lengths[None]}
    options["multiplier"] = factor(math.prod(p.multipliers))
    course = train_modules(modules_of(start), problem.moments(), **options)
    assert course.loss[0].tolist() == pytest.approx(losses, rel=1e-9, abs=0)
    assert losses[-1] < 0.1 * losses[0]


def test_cores_are_the_nets_of_the_modules():
    sizes = (3, 4, 2, 2)
    drawn = {"wide": [10**6, 50], "init_std": [1e-3, 0.1], "seeds": [0, 1]}
    cores, modules = draw_cores(*sizes, **drawn), draw_modules(*sizes, **drawn)
    assert [w.shape[1:] for w in cores] == [(7, 3), (4, 7), (6, 4), (2, 6)]
    for ours, module in zip(modules_of(cores), modules, strict=True):
        torch.testing.assert_close(vars(ours), vars(module), rtol=0, atol=0)


def test_drawn_modules_have_the_moments_of_gaussian_weights():
    n, runs = 50, 2000
    draws = {"wide": [n] * runs, "init_std": [n**-0.5] * runs, "seeds": list(range(runs))}
    module = draw_modules(3, 4, 2, 1, **draws)[0]
    # E Q = I, var V_ij = 1/n; 2000 draws of 6 entries: 4 standard errors
    mean = module.q.mean(0)
    torch.testing.assert_close(mean, torch.eye(2, dtype=torch.float64), rtol=0, atol=0.02)
    spread = float(module.v.square().mean() * n)
    assert spread == pytest.approx(1, abs=4 * (2 / (6 * runs)) ** 0.5)


def test_a_frozen_run_stays_where_it_met_its_condition():
    problem = teacher()
    draws = {"wide": [40, 4000], "init_std": [40**-0.5, 4000**-0.5], "seeds": [0, 0]}
    options = {"steps": 400, "step_size": 0.1, "stop": lambda f: f.square().sum((1, 2)) > 1}
    modules = draw_modules(3, 4, 2, 2, **draws)
    course = train_modules(modules, problem.moments(), multiplier=factor(1, 1), **options)
    first = (course.maps.square().sum((2, 3)) > 1).long().argmax(1)
    assert first[1] > first[0] > 0
    torch.testing.assert_close(course.maps[0, -1], course.maps[0, first[0]], rtol=0, atol=0)
