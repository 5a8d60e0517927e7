"""The comparison: what counts as arriving, what the record says, and that it is reproduced."""

import math

import pytest
import torch

from paper.saddles.efficient_algorithm import measurements
from paper.saddles.efficient_algorithm.comparison import compare, read_comparison
from paper.saddles.efficient_algorithm.completion import table
from paper.saddles.efficient_algorithm.measures import measures
from paper.saddles.efficient_algorithm.methods import METHODS, arrival, run_method
from paper.saddles.efficient_algorithm.problems import CASES, case
from paper.saddles.efficient_algorithm.studies import read_recovery, read_studies


def test_passing_the_last_level_elsewhere_is_not_arriving():
    c = case("P5")
    far = run_method("gd-1e-8", c, {"step": 1.0}, max_steps=200)  # wild steps, lower loss
    assert float(far.losses[-1]) < float(c.levels[-1]) and arrival(far, c) is None
    assert arrival(run_method("ours", c, {}), c) is not None


@pytest.mark.parametrize("name", ["P4", "P9"])
def test_levels_without_closed_form_are_met(name):
    c = case(name)
    assert max(measurements.level_gaps(measurements.skip_case(c), c)) <= 1e-6


def test_the_record_is_reproduced():
    for name, new in compare("P2", ["tiny", "ours"]).items():
        old = read_comparison()["P2"][name]
        assert all(new[one] == old[one] for one in ("evaluations", "svds", "final_rank"))
        assert new["final_rank"] == 4


def test_the_record_is_complete_and_says_what_the_chapter_says():
    record = read_comparison()
    for name in CASES:
        c = case(name) if name not in ("P4", "P9") else None
        kind = "linear" if c is None else "diagonal" if c.diagonal else c.activation
        assert set(record[name]) == {n for n, m in METHODS.items() if kind in m.on}
    for name in ("P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9"):
        assert max(record[name]["ours"]["saddle_gap"]) < 1e-3
    for name in ("P1", "P2", "P3"):
        assert record[name]["tiny"]["evaluations"] <= record[name]["ours"]["evaluations"]
    assert record["P2"]["muon"]["excess_rank"] > 0.3
    assert record["P3"]["gd-1e-1"]["evaluations"] < record["P3"]["ours"]["evaluations"]
    assert max(record["P3"]["gd-1e-14"]["saddle_gap"]) > 0.1


def test_without_a_gap_the_start_decides_where_gradient_descent_ends():
    c = case("P4'")
    runs = (run_method("gd-1e-8", c, {"step": 0.35}, seed=s, max_steps=400) for s in (0, 1))
    ends = [run.outputs[-1] for run in runs]
    seen = c.problem.targets != 0
    assert torch.allclose(ends[0][seen], ends[1][seen], rtol=1e-2)
    assert float((ends[0] - ends[1]).norm()) > 0.1 * float(c.problem.targets.norm())
    assert measurements.skip_case(c).saddles[0].escape.tied


def test_cost_of_gradient_descent_grows_with_the_predicted_slope():
    cost = measurements.scale_cost((1e-8, 1e-14, 1e-60))
    assert cost.slope == pytest.approx(cost.predicted, rel=0.03)
    assert cost.skip < min(cost.descent)


def test_second_figure_has_the_drops_of_the_first_without_its_plateaus():
    result = measurements.second_figure()
    for run in (result.skipped, result.fast):
        losses = torch.tensor([s.loss for s in run.saddles], dtype=torch.float64)
        assert torch.allclose(losses, result.levels, rtol=1e-3, atol=1e-4)
    gd = int((result.losses <= 0.01).nonzero()[0, 0])
    path = result.skipped.path
    assert float(path.evaluations[(path.losses <= 0.01).nonzero()[0, 0]]) < gd


def test_measures_of_a_wrong_path_are_bad():
    c = case("P2")
    path = run_method("gd-1e-1", c, {"step": 0.5}, max_steps=5)
    result = measures(path, c)
    assert result["evaluations"] is None and not result["in_order"]
    assert max(result["saddle_gap"]) > 0.1


def test_recovery_record_has_every_draw():
    found = read_recovery()
    assert found.skip.shape == (24, 2)
    assert {"sensitivity", "speed", "visits"} <= set(read_studies())
    values, *masks = table(0)
    assert values.shape == (30, 40)
    assert bool((sum(masks) == 1).all())  # every entry is used once
    assert math.isclose(float(masks[0].mean()), 0.5, abs_tol=0.05)
