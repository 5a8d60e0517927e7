"""Exact reductions of linear nets, each against the run it replaces."""

import pytest
import torch

from learning_dynamics.problems import Moments, Problem, linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.linear_nets import linear
from learning_dynamics.saddles.linear_nets.fast_forward import Plateau
from learning_dynamics.saddles.two_layer import (
    Weights,
    gradient,
    gradient_descent,
    initialise,
    uniform_grid,
)


def teacher(samples=40, noise=0.2):
    return linear_teacher(generator=generator("linear"), samples=samples, noise=noise)


def start(scale=0.1, width=12, runs=2):
    return initialise((6, width, 4), scale, [generator("linear", i) for i in range(runs)])


def test_compression_is_only_for_linear_nets():
    problem = teacher(300)
    a, b = (gradient(start(), p, activation="relu") for p in (problem, linear.compress(problem)))
    assert (a.loss - b.loss).abs().max() > 1e-3


def test_moments_alone_determine_the_run():
    moments = teacher(300).moments()
    again = linear.from_moments(moments).moments()
    torch.testing.assert_close(vars(again), vars(moments), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="eigenvalue"):
        linear.from_moments(Moments(moments.xx, 3 * moments.yx, moments.yy))


def test_gaussian_narrow_has_the_law_of_a_narrowed_gaussian():
    """E S'S = m1 epsilon^2 I; its trace has m1 (m0 + m2) degrees of freedom."""
    streams = (generator("bartlett", i) for i in range(400))
    draws = [linear.gaussian_narrow((3, 50, 2), 0.1, stream).units[0] for stream in streams]
    mean = torch.stack([r.mT @ r for r in draws]).mean(0) / (50 * 0.01)
    # entries have standard deviation at most sqrt(2/50); 400 draws; 5 sigma
    assert (mean - torch.eye(5)).abs().max() < 5 * (2 / 50 / 400) ** 0.5
    with pytest.raises(ValueError, match="m1"):
        linear.gaussian_narrow((3, 4, 2), 0.1, generator("bartlett"))


def test_rotation_is_orthogonal_and_exact_for_rows_of_any_length():
    rows = torch.randn(5, 7, generator=generator("rows"), dtype=torch.float64)
    lengths = torch.tensor([1e-100, 1.0, 1e-40, 1e-70, 1e-20], dtype=torch.float64)
    graded = rows * lengths[:, None]
    for s in (rows, graded):
        new, omega = linear.rotate_rows(s, sweeps=8)
        for q in (omega, new / new.norm(dim=-1, keepdim=True)):
            torch.testing.assert_close(q @ q.mT, torch.eye(5).double(), rtol=0, atol=1e-14)
    # the volume of the rows is kept although their lengths span 100 orders
    volume = torch.logdet(rows @ rows.mT) / 2 - 230 * torch.tensor(10.0).double().log()
    torch.testing.assert_close(new.norm(dim=-1).log().sum(), volume, rtol=0, atol=1e-10)


def test_rotating_the_hidden_basis_changes_no_run():
    names, both = ("mode_sizes", "unit_singular_values"), ("loss", "product")
    options = {"step_size": 0.05, "steps": 600, "record_at": uniform_grid(600, 30)}
    plain = gradient_descent(start(), teacher(), observables=(names[1], *both), **options)
    options |= {"observables": (names[0], *both), "tolerance": None}
    turned = linear.linear_descent(start(), teacher(), **options)
    torch.testing.assert_close(turned["loss"], plain["loss"], rtol=1e-11, atol=0)
    torch.testing.assert_close(turned["product"], plain["product"], rtol=0, atol=1e-12)
    sizes = (run[name][..., :4] for run, name in zip((turned, plain), names, strict=True))
    torch.testing.assert_close(*sizes, rtol=1e-9, atol=0)
    wide = linear.narrow(start()).widen(turned.final)
    torch.testing.assert_close(wide.w1, plain.final.w1, rtol=0, atol=1e-12)


def test_the_bound_of_a_jump_bounds_the_motion_it_neglects():
    problem, eta, w = linear.compress(teacher()), 0.05, start(1e-6, runs=1)
    moments = problem.moments()
    slope = w.product[0] @ moments.xx - moments.yx
    plateau = Plateau.at(w.units[0], slope, eta, float(torch.linalg.matrix_norm(moments.xx, 2)))
    moved = []
    for _ in range(61):
        c = w.product[0] @ moments.xx - moments.yx
        moved.append(eta * float(torch.linalg.matrix_norm(c - slope, 2)))
        g = gradient(w, problem).gradients
        w = Weights(w.w1 - eta * g.w1, w.w2 - eta * g.w2)
    for steps in (5, 20, 60):
        bound = float(plateau.bound(torch.tensor([steps])))
        true = sum(moved[:steps])
        assert true <= bound * 1.01 + 1e-18 and bound <= 100 * true
    for tolerance in (1e-12, 1e-9):
        jump = plateau.longest(10**6, tolerance)
        at, above = plateau.bound(torch.tensor([jump, jump + 1]))
        assert at <= tolerance < above


def test_divergence_and_bad_arguments_are_named(as_users_run):
    p = teacher()
    for problem, options, message in (
        (p, {"step_size": 5.0, "steps": 500}, "diverged .* step_size = 5"),
        (p, {"observables": ("units",)}, "observable"),
        (Problem(p.inputs[None], p.targets[None]), {}, r"inputs: shape .* must be \(m0, n\)"),
    ):
        with pytest.raises(ValueError, match=message):
            linear.linear_descent(start(), problem, **{"step_size": 0.1, "steps": 3} | options)
