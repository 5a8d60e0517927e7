"""Published ReLU runs: what the chapter says about them."""

import pytest
import torch

from paper.saddles.nonlinear import published_runs


@pytest.fixture(scope="module")
def units():
    return published_runs.units_before_escape()


def test_balanced_units_have_equal_norms():
    w = published_runs.balanced(7, [0.1, 1e-3], [0, 0], "balanced")
    assert torch.allclose(w.w1.norm(dim=-1), w.w2[:, 0].abs())
    assert torch.allclose(w.w1[0], 100 * w.w1[1])


def test_the_rest_on_a_kink_hovers_in_proportion_to_the_step():
    excess = []
    for eta in (0.6, 0.3):
        _, rest, _ = published_runs.five_point_stages(
            published_runs.five_point_run(step_size=eta, seeds=2, span=700.0)
        )
        excess.append(float(rest.median()) - 0.030185279)
    assert excess[1] > 0
    assert excess[0] / excess[1] == pytest.approx(2, rel=0.15)


def test_active_units_end_on_extremal_directions_of_their_sign(units):
    assert len(units.directions) == 3
    grown = (units.norms[-1] > 20 * units.norms[0]).nonzero()[:, 0].tolist()
    signs = set()
    for i in grown:
        own = units.directions[units.directions[:, 2].sign() == units.signs[-1, i]]
        angles = torch.rad2deg(torch.atan2(own[:, 1], own[:, 0]))
        off = (angles - units.angles[-1, i] + 180) % 360 - 180
        assert float(off.abs().min()) < 5
        signs.add(float(units.signs[-1, i]))
    assert signs == {1.0, -1.0}  # more than one direction: Theorem 1 as printed fails


def test_other_groups_stay_at_a_constant_distance_from_the_first(units):
    ratios, constants = published_runs.distance_from_first(units)
    assert constants[0] < 1e-6 and float(constants[1:].min()) > 0.1
    for found, constant in zip(ratios[1:], constants[1:].tolist(), strict=True):
        assert found and max(abs(r - constant) for r in found) < 0.15
    assert max(ratios[0]) < 0.05


def test_each_drop_adds_one_direction():
    run = published_runs.five_point_run(seeds=2, observables=("loss", "units"))
    assert published_runs.five_point_directions(run).tolist() == [[0, 1, 2]] * 2
