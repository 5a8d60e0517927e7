"""What the first drop of a nonlinear net does to the second, on isotropic inputs."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.special import beta

from paper.saddles.nonlinear import self_made


def test_the_amount_sown_is_that_of_the_equations_of_a_unit():
    s1, s2, m, size = 1.0, 0.45, 0.3, 0.2  # of the pair x, y across all other units

    def force(t, pair):
        learned = s1 / (1 + np.exp(-2 * s1 * t))
        cube = m * (size * (learned / s1) ** 0.5) ** 3
        return s2 * pair[1] - (s1 - learned) * cube, s2 * (pair[0] - cube / 3)

    end = solve_ivp(force, (-30, 30), (0, 0), rtol=1e-10, atol=1e-14).y[:, -1]
    rho = s2 / s1 / 2
    wanted = -(2**0.5) / 3 * rho * beta(rho, 1.5 - rho) * m * size**3
    assert end.sum() / 2**0.5 / np.exp(30 * s2) == pytest.approx(wanted, rel=1e-4)


def test_inputs_are_white_and_controls_have_the_symmetry_they_are_named_after():
    for inputs in self_made.FLIPS:
        x, s, units = self_made._draws(4, 8, 80, inputs)
        assert torch.allclose(x @ x.mT / 80, torch.eye(5, dtype=x.dtype), atol=1e-12)
        moment = (x[:, 0] ** 3 * x[:, 1]).mean(-1).abs()
        bend = (x[:, 0].sign() * x[:, 1] ** 2).mean(-1).abs()
        assert (inputs == "mirrored") == (float(moment.max()) < 1e-12)
        assert (inputs == "any") == (float(bend.max()) > 1e-12)
        assert bool((s.diff() < 0).all()) and bool((units[:, :4] != 0).all())


def test_what_the_first_drop_makes_is_predicted_to_first_order():
    result = self_made.run(self_made.Config().quick())
    found = self_made.self_made_anisotropy.judge(result)
    more = found.details
    assert abs(np.asarray(found.measured)).max() < self_made.GAP_OFF
    assert more["longer"] < 0.05 < 0.95 < min(more["longer_linear"], more["longer_mirrored"])
    assert more["seen_error"] < 0.2 and more["symmetric_error"] < 1e-3
    assert more["free"] >= 0.5 and more["rate_error"] < 0.2
    # The linear theory, which knows nothing of what is sown, is wrong by far.
    tanh = result.sel(net="tanh")
    assert float((tanh.steps / tanh.linear).max()) < 0.8
