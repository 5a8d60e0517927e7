import math

import pytest
import torch

from learning_dynamics.problems import linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.linear_nets.modes import follow_modes, stack_moments
from learning_dynamics.saddles.theory import alignment as plateaus


def problem():
    return linear_teacher(generator=generator("test-plateaus"))


def test_correlation_uses_the_slopes():
    g = generator("test-plateaus", "slopes")
    x, y = (torch.randn(k, 9, generator=g, dtype=torch.float64) for k in (3, 2))
    slope = torch.rand(9, generator=g, dtype=torch.float64)
    expected = -y @ torch.diag(slope) @ x.mT
    torch.testing.assert_close(plateaus.correlation(x, y, slope), expected)


def test_escape_is_the_top_eigenvector_of_the_update():
    r = problem().moments().yx
    found = plateaus.escape(r)
    a = plateaus.update_matrix(r, 0.1)
    torch.testing.assert_close(a @ found.direction, (1 + 0.1 * found.rate) * found.direction)
    torch.testing.assert_close(torch.linalg.eigvalsh(a)[-1], 1 + 0.1 * found.rate)
    assert 0 < found.gap < 1


def test_predicted_plateau_is_the_measured_one():
    moments = stack_moments([problem().moments()])
    g = generator("test-plateaus", "start")
    s = 1e-10 * torch.randn(1, 10, 10, generator=g, dtype=torch.float64)
    for eta in (0.01, 0.1):
        predicted = float(plateaus.plateau_steps(moments, s, eta, 0.01)[0])
        track = follow_modes(moments, s, step_size=eta, steps=int(1.2 * predicted), every=1)
        measured = int((track.modes[0, :, 0] >= 0.01).long().argmax())
        assert abs(measured - predicted) <= 1


def test_modes_at_escape_interpolates_the_logarithm():
    t = torch.arange(0, 60, dtype=torch.float64)
    modes = torch.stack([1e-6 * torch.exp(0.3 * t), 1e-7 * torch.exp(0.1 * t)], -1)[None]
    found = plateaus.modes_at_escape(modes, 1, 0.1)[0]
    at = math.log(1e5) / 0.3
    expected = torch.tensor([0.1, 1e-7 * math.exp(0.1 * at)], dtype=torch.float64)
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match="run 0: mode 2"):
        plateaus.modes_at_escape(modes, 2, 0.1)
