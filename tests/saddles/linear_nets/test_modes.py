import mpmath
import pytest
import torch

from learning_dynamics.problems import linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.linear_nets.modes import (
    follow_modes,
    grade_rows,
    mode_values,
    stack_moments,
)
from learning_dynamics.saddles.theory.unit_matrix import from_units
from learning_dynamics.saddles.two_layer import gradient_descent, uniform_grid


def start(scale, shape=(10, 10)):
    g = generator("test-modes", "start")
    return scale * torch.randn(1, *shape, generator=g, dtype=torch.float64)


def test_moments_give_the_run_of_the_data():
    problem = linear_teacher(generator=generator("test-modes"), noise=0.3)
    s = start(0.1)
    track = follow_modes(stack_moments([problem.moments()]), s, step_size=0.05, steps=100, every=10)
    options = {"record_at": uniform_grid(100, 10), "observables": ("loss", "unit_singular_values")}
    run = gradient_descent(from_units(s, 6), problem, step_size=0.05, steps=100, **options)
    torch.testing.assert_close(track.losses, run["loss"], rtol=1e-11, atol=1e-12)
    data = track.to_dataset()
    assert data["modes"].dims == ("run", "step", "mode") and data.sizes["step"] == 11
    torch.testing.assert_close(track.modes, run["unit_singular_values"], rtol=1e-9, atol=1e-13)


def test_grading_rotates_hidden_units_and_nothing_else():
    s = start(1.0, (12, 10)) * torch.logspace(0, -30, 10, dtype=torch.float64)
    graded = grade_rows(s)
    torch.testing.assert_close(graded.mT @ graded, s.mT @ s, rtol=1e-12, atol=1e-14)
    assert graded.shape == (1, 10, 10)


def test_small_modes_keep_their_relative_accuracy():
    g = generator("test-modes", "graded")
    scale = torch.logspace(0, -40, 6, dtype=torch.float64)
    s = scale[:, None] * torch.randn(1, 6, 6, generator=g, dtype=torch.float64)
    for _ in range(5):
        s = grade_rows(s)
    with mpmath.workdps(120):
        matrix = mpmath.matrix(s[0].tolist())
        exact = sorted((float(x) for x in mpmath.svd_r(matrix, compute_uv=False)), reverse=True)
    assert mode_values(s)[0].tolist() == pytest.approx(exact, rel=1e-10, abs=0)
