"""Stages of a run, arrival rates and predicted distances from a saddle's level."""

import math

import pytest
import torch

from learning_dynamics.problems import Moments, linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.theory import stages, staircase
from learning_dynamics.saddles.two_layer import Weights, gradient, gradient_descent, uniform_grid


def stairs(t, at, heights):
    """A smooth staircase that falls by heights[k] around step at[k]."""
    return sum(h * torch.sigmoid(-(t - a) / 20.0) for a, h in zip(at, heights, strict=True))


def test_known_drops_and_plateaus_are_found():
    t = torch.arange(0, 2001, 4)
    curve = stairs(t.double(), (303.0, 905.0), (2.0, 1.0))
    levels = torch.tensor([[3.0, 1.0, 0.0, -1.0]]).double()  # the last drop never comes
    found = stages.find_stages(curve[None], levels, t)
    assert found.drop_steps[0].tolist() == pytest.approx([303, 905, math.nan], abs=0.1, nan_ok=True)
    assert 560 <= found.plateau_steps[0, 1] <= 640
    assert found.misfit[0, :3].max() < 1e-3 and found.plateau_steps[0, 3].isnan()
    drops, rests = stages.find_drops(curve, t)
    assert t[drops].tolist() == pytest.approx([303, 905], abs=4)
    assert len(rests) == 3


def test_crossings_are_interpolated_and_first_records_are_not_invented():
    losses = torch.tensor([[0.5, 0.5, 0.25]]).double()
    marks = torch.tensor([[0.375, 0.1, 0.6]]).double()
    found = stages.crossing_steps(losses, marks, torch.tensor([0, 10, 20]))[0]
    assert found[0] == 15 and found[1].isnan() and found[2] == 0
    assert stages.first_record(losses < 0.4).tolist() == [2]
    with pytest.raises(ValueError, match="run .0. never does in 3 records"):
        stages.first_record(losses < 0.1)


def scalar(correlation: float) -> Moments:
    one = torch.ones(1, 1, dtype=torch.float64)
    return Moments(one, correlation * one, 9 * one)


def test_arrival_rate_is_the_decay_of_a_run_of_width_k():
    # Start on the slowest mode of the saddle itself: from there the loss decays at one rate.
    problem = linear_teacher(generator=generator("arrival", 1))
    moments, eta, k = problem.moments(), 0.02, 2
    u, s, vt = torch.linalg.svd(staircase.rank_k_map(moments, k))
    root = s[:k].sqrt()
    saddle = torch.cat([(root[:, None] * vt[:k]).flatten(), (u[:, :k] * root).flatten()])

    def weights(parameters):
        first, second = parameters.split((6 * k, 4 * k))
        return Weights(first.reshape(1, k, 6), second.reshape(1, 4, k))

    def loss(parameters):
        return gradient(weights(parameters), problem).loss[0]

    modes = torch.linalg.eigh(torch.autograd.functional.hessian(loss, saddle)).eigenvectors
    start = weights(saddle + 1e-3 * modes[:, k * k])
    options = {"step_size": eta, "steps": 200, "record_at": uniform_grid(200, 100)}
    run = gradient_descent(start, problem, **options)
    above = (run["loss"][0] - staircase.predict_staircase(moments, eta).levels[k]).log()
    slope = float(above[2] - above[1]) / (100 * eta)
    # The kick's square, 1e-3 relative, bends the mode.
    assert slope == pytest.approx(-2 * float(stages.arrival_rate(moments, k, eta)), rel=1e-3)


@pytest.mark.parametrize("turn", range(8))
def test_tied_saddles_do_not_slow_the_arrival(turn):
    # White inputs, s = (2, 2, .5): at k = 1 the modes of the Hessian are 2 s, s_j, s - s_j and s + s_j,
    # and s - s_j is 0 for the tie, up to rounding of either sign.
    g = torch.Generator().manual_seed(turn)
    u, v = (torch.linalg.qr(torch.randn(3, 3, generator=g, dtype=torch.float64))[0] for _ in "uv")
    yx = u @ torch.diag(torch.tensor([2.0, 2.0, 0.5], dtype=torch.float64)) @ v
    tied = Moments(torch.eye(3, dtype=torch.float64), yx, yx @ yx.mT)
    assert float(stages.arrival_rate(tied, 1)) == pytest.approx(1.5, rel=1e-9)
    finite = -math.log(1 - 0.015) / 0.01
    assert float(stages.arrival_rate(tied, 1, 0.01)) == pytest.approx(finite, rel=1e-9)


def test_the_stiffest_mode_can_be_the_slowest():
    # L = (s - ab)^2/2 at a = b = sqrt(s): Hessian eigenvalues 0 (gauge) and 2s = 2.6.
    # At eta = 0.7 a step multiplies by 1 - 1.82 = -0.82, seen in a run too.
    eta = 0.7
    assert float(stages.arrival_rate(scalar(1.3), 1)) == pytest.approx(2.6, rel=1e-12)
    rate = float(stages.arrival_rate(scalar(1.3), 1, eta))
    assert rate == pytest.approx(-math.log(0.82) / eta, rel=1e-12)
    w = 1.3**0.5 + 1e-6
    misses = []
    for _ in range(40):
        w += eta * w * (1.3 - w * w)
        misses.append(abs(w - 1.3**0.5))
    assert math.log(misses[30] / misses[10]) == pytest.approx(-20 * eta * rate, rel=1e-4)
    with pytest.raises(ValueError, match="below 2/2.6"):
        stages.arrival_rate(scalar(1.3), 1, 0.8)


def test_longer_plateaus_rest_closer():
    moments = linear_teacher(generator=generator("arrival", 1)).moments()
    found = staircase.predict_staircase(moments, 0.02)
    values = [stages.log_excess(moments, found, 1, scale) for scale in (1e-4, 1e-8, 1e-16)]
    assert values[1] == pytest.approx(2 * values[0], rel=1e-12)  # linear in log(1/epsilon)
    assert values[2] < values[1] < values[0] < 0
