"""Published ReLU runs: what the chapter says about them."""

import numpy as np
import pytest

from paper.saddles.nonlinear import published_runs


def test_the_rest_on_a_kink_hovers_in_proportion_to_the_step():
    excess = []
    for eta in (0.6, 0.3):
        run = published_runs.five_point_run(step_size=eta, seeds=2, span=700.0)
        rest = float(published_runs.five_point_stages(run)[1].median())
        excess.append(rest - published_runs.FIVE_POINT_LEVELS[1])
    assert excess[1] > 0
    assert excess[0] / excess[1] == pytest.approx(2, rel=0.15)


def test_active_units_end_on_extremal_directions_of_their_sign():
    found = published_runs.units_before_escape()
    units, directions = found.units.values, found.direction.values
    norms = np.linalg.norm(units, axis=-1)
    grown = units[-1, norms[-1] > 20 * norms[0]]
    angle, own = (np.degrees(np.arctan2(w[:, 1], w[:, 0])) for w in (grown, directions))
    off = abs((angle[:, None] - own + 180) % 360 - 180)
    alike = np.sign(grown[:, 2:]) == np.sign(directions[:, 2])
    assert len(directions) == 3 and np.where(alike, off, 180).min(1).max() < 5
    # More than one direction: Theorem 1 as printed fails, with ratios that stay constant.
    apart = published_runs.distance_from_first(found)
    assert set(apart.k.values) == {0, 1, 2}
    assert apart.constant[0] < 1e-6 and apart.constant[1:].min() > 0.1
    assert abs(apart.ratio[-1] - apart.constant[apart.k.values].values).max() < 0.15
