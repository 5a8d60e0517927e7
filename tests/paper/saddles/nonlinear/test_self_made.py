"""What the first drop of a nonlinear net does to the second, on isotropic inputs."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from paper.saddles.nonlinear import self_made


def test_the_amount_sown_is_that_of_the_equations_of_a_unit():
    s1, s2, m, size = 1.0, 0.45, 0.3, 0.2  # of the pair x, y across all other units

    def force(t, pair):
        learned = s1 / (1 + np.exp(-2 * s1 * t))
        cube = m * (size * (learned / s1) ** 0.5) ** 3
        return s2 * pair[1] - (s1 - learned) * cube, s2 * (pair[0] - cube / 3)

    end = solve_ivp(force, (-30, 30), (0, 0), rtol=1e-10, atol=1e-14).y[:, -1]
    wanted = self_made.sown_share(s2 / s1 / 2) * m * size**3
    assert end.sum() / 2**0.5 / np.exp(30 * s2) == pytest.approx(wanted, rel=1e-4)


def test_what_the_first_drop_makes_is_predicted_to_first_order():
    tanh = self_made.smooth(self_made.Config().quick()).sel(net="tanh")
    assert abs(tanh.steps / tanh.predicted - 1).max() < self_made.GAP_OFF
    # The linear theory, which knows nothing of what is sown, is wrong by far.
    assert (tanh.steps / tanh.linear).max() < 0.8
