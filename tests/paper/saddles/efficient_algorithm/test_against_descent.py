"""Gradient descent's answer is read from its runs alone; paths and ends are told apart."""

import numpy as np
import pytest
import xarray as xr
from scipy.special import expit

from paper.records import read_record
from paper.saddles.efficient_algorithm import against_descent
from paper.saddles.efficient_algorithm.against_descent import Answer, Config, Rest
from paper.saddles.efficient_algorithm.reference_runs import Reference, reference

pytestmark = pytest.mark.usefixtures("as_users_run")  # stand-ins for results

SCALES = (1e-8, 1e-14)


def staircase(times, levels, slow=0.0):
    """Losses at logarithmic steps: drops at `times` per log(1/epsilon), each 10 steps long."""
    steps = np.unique(np.geomspace(1, 30000, 2000).round().astype(int))
    curves = []
    for scale in SCALES:
        loss = np.full(len(steps), levels[0])
        for time, a, b in zip(times, levels[:-1], levels[1:], strict=True):
            width = 10 * (1 - slow * np.log(scale))
            loss = loss - (a - b) * expit((steps + time * np.log(scale)) / width)
        curves.append(loss)
    data = {"loss": (("scale", "step"), curves), "rises": ("scale", [False, False])}
    return xr.Dataset(data, coords={"step": steps})


def test_rests_and_what_two_scales_must_agree_on():
    given = against_descent.answer(staircase((10, 40), (1.0, 0.5, 0.1)), SCALES)
    assert given.why == "" and given.horizon == 30000
    np.testing.assert_allclose([r.level for r in given.rests], [1.0, 0.5, 0.1], atol=1e-3)
    # a drop that takes longer the smaller the scale hides a saddle that is never rested at
    assert against_descent.answer(staircase((10, 40), (1.0, 0.5, 0.1), 0.2), SCALES).why
    moving = staircase((10, 1300), (1.0, 0.5, 0.1))  # from the smaller scale beyond the end
    assert against_descent.answer(moving, SCALES).why == "scales differ"


@pytest.mark.parametrize(
    "levels, steps, wanted",
    [
        ((1.0, 0.5, 0.1), (300, 900, np.inf), "same"),
        ((1.0, 0.5), (300, np.inf), "ends above"),
        ((1.0, 0.5, 0.0), (300, 900, np.inf), "ends below"),
        ((1.0, 0.1), (1200, np.inf), "skips one"),
        ((1.0, 0.5, 0.3, 0.1), (300, 400, 500, np.inf), "visits another"),
        ((1.0, 0.5, 0.3, 0.1), (300, 900, 5, np.inf), "same"),  # too short to be seen
        ((1.0, 0.5, 0.1, 0.0), (300, 900, 1e6, np.inf), "same"),  # beyond the horizon
    ],
)
def test_a_wrong_path_is_told_from_a_right_one(levels, steps, wanted):
    rests = tuple(
        Rest(a, b, level, level, level)
        for a, b, level in ((0, 300, 1.0), (320, 1200, 0.5), (1220, 30000, 0.1))
    )
    path = list(zip(levels, steps, strict=True))
    assert against_descent.compare(Answer(rests, 30000, ""), path) == wanted


def test_the_record_is_what_the_algorithm_does():
    quick = against_descent.run(Config(against_descent.QUICK[1::3]))  # one of each activation
    record = read_record("skip-against-descent").sel(problem=quick.problem)
    assert quick.outcome.values.tolist() == record.outcome.values.tolist()
    assert quick.status.values.tolist() == record.status.values.tolist()


@pytest.mark.audit  # fifteen seconds
def test_smaller_scales_tell_a_saddle_from_a_slow_descent():
    stays = against_descent.at_smaller_scales(against_descent.run(), 437)
    slow, saddle = (stays[f"steps at {level} L(0)"].to_numpy() for level in ("0.0560", "0.0386"))
    assert np.ptp(slow) <= 0.05 * slow.max()  # the step of the record
    growth = np.diff(saddle) / np.diff(-np.log([1e-14, 1e-30, 1e-60]))
    assert growth.min() > 10 and growth[1] == pytest.approx(growth[0], rel=0.15)


def test_the_recorded_rests_are_those_of_gradient_descent():
    for seed in against_descent.QUICK[:2]:
        given = against_descent.answer(reference(Reference(seed)), SCALES)
        stored = read_record("skip-against-descent").sel(problem=seed)
        levels = stored.level.values[stored.level.notnull()]
        np.testing.assert_allclose([r.level for r in given.rests], levels, atol=1e-5)


def test_a_saddle_called_a_minimum_would_be_found():
    seed = against_descent.QUICK[0]
    record = read_record("skip-against-descent").sel(problem=seed)
    found = against_descent.skip(Reference(seed), float(record.step_size))
    assert against_descent.lowered(Reference(seed), found.saddles[1].weights) > 1e-3
    assert against_descent.lowered(Reference(seed), found.weights) <= 1e-6
