"""Copies of an active unit part when the law says, and the rotation behind the measurement is exact."""

import numpy as np
import pytest

from paper.records import read_record
from paper.saddles.efficient_algorithm import cell_splitting
from paper.saddles.efficient_algorithm.cell_splitting import Config, example, follow, random_case


def test_rotated_rows_are_gradient_descent():
    config, case = Config(), random_case(2)
    one = example(scales=(1e-9,))
    run = follow(case, 1e-9, case.step_size(config.relative_step), 2000)
    plain = one.loss.values[0][: len(run.losses)]
    # the unrotated run's second mode stands on rounding, 1e-16/1e-8 of what it is at the drop
    np.testing.assert_allclose(run.losses / run.losses[0], plain, atol=1e-6)
    assert int(one["rank"]) == 2 < int(one.directions) <= int(one.units)


def test_the_second_drop_comes_when_the_law_says():
    quick = cell_splitting.run(Config().quick())
    judged = quick.sel(draw=quick.judged)
    assert judged.draw.size >= 2 and bool(judged.parts.any())
    np.testing.assert_allclose(judged.measured, judged.predicted, rtol=0.02)
    seen = quick.sel(draw=quick.measured.notnull())  # the record follows runs twice as long
    record = read_record("cell-splitting").sel(draw=seen.draw)
    np.testing.assert_allclose(seen.predicted, record.predicted, rtol=1e-6)
    assert (seen.judged.values == record.judged.values).all()


def test_one_output_leaves_nothing_to_part():
    case = random_case(4)
    single = cell_splitting.Case(case.x, case.y[:1], case.units[:, : len(case.x) + 1], case.slope)
    run = follow(single, 1e-50, single.step_size(0.3), 6000)
    several = follow(case, 1e-50, case.step_size(0.3), 6000)
    assert run is not None and several is not None

    def parting(task, found):
        lead = max(found.origin, key=lambda k: np.linalg.norm(found.origin[k].rows[0]))
        now = task.rates(found.residuals[1], found.at(0.9)[lead].mask)[0]
        return now / task.rates(found.residuals[0], found.origin[lead].mask)[0]

    assert parting(single, run) < 1e-9 < 1e-2 < parting(case, several)


def test_a_scale_without_a_plateau_is_refused():
    with pytest.raises(ValueError, match=r"scale = 0\.1"):
        follow(random_case(2), 0.1, 0.1, 10)
