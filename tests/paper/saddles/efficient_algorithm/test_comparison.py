"""The comparison: what counts as arriving, what the record says, and that it is reproduced."""

import math

import numpy as np
import pytest
import torch

from paper.ledger import recorded
from paper.records import read_record
from paper.saddles.efficient_algorithm import comparison, completion, measurements
from paper.saddles.efficient_algorithm.comparison import SEEDS, STATEMENTS, VISITS, read_draws
from paper.saddles.efficient_algorithm.methods import (
    METHODS,
    NO_SEED,
    arrival,
    best_settings,
    run_method,
)
from paper.saddles.efficient_algorithm.problems import CASES, case


def test_passing_the_last_level_elsewhere_is_not_arriving():
    c = case("P5")
    far = run_method("gd-1e-8", c, {"step": 1.0}, max_steps=200)  # wild steps, lower loss
    assert float(far.losses[-1]) < float(c.levels[-1]) and arrival(far, c) is None
    assert arrival(run_method("ours", c, {}), c) is not None


@pytest.mark.parametrize("name", ["P4", "P9"])
def test_levels_without_closed_form_are_met(name):
    c = case(name)
    assert max(measurements.level_gaps(measurements.skip_case(c), c)) <= 1e-6


@pytest.mark.parametrize("seed", [0, 1])  # the whole grid, and a walk
def test_the_record_is_reproduced(seed):
    for name in ("tiny", "ours"):
        entries = read_draws()["P2"][name]
        new = comparison.measured("P2", name, seed, entries["0"]["settings"] if seed else None)
        assert new["evaluations"] == entries[str(seed)]["evaluations"]


def test_the_record_is_complete_and_says_what_the_chapter_says():
    draws = read_draws()
    assert list(draws) == list(CASES)
    for problem, methods in draws.items():
        kind = "diagonal" if problem == "P8" else "relu" if problem in "P5 P6 P7" else "linear"
        assert set(methods) == {n for n, m in METHODS.items() if kind in m.on}
        for name, entries in methods.items():
            once = problem == "P8" or (kind == "relu" and name in NO_SEED)
            assert set(entries) == {str(s) for s in SEEDS[: 1 if once else None]}, (problem, name)
    certain, cheapest = ("GLRL", "AGF", "Neuron Pursuit", "thesis's algorithm", "ours"), set()
    for method, words, problems, rule in STATEMENTS:
        found = {p: comparison.counts(draws, p, rule) for p in problems}
        always = {p for p, (kept, of) in found.items() if kept == of}
        if (words == VISITS and method in certain) or method == "TINY":
            assert always == set(problems)
        if method == "Muon-style":
            assert always >= {"P1", "P2", "P3"}
        if method == "rank-one pursuit":
            assert found["P3"][0] == 0
        cheapest |= always if words == "the cheapest that visits every saddle" else set()
    assert cheapest >= {"P4", "P5", "P9"}


def test_a_missed_end_counts_as_infinite_and_a_blurred_saddle_as_not_visited():
    entries = (10.0, [0.001, 0.0]), (None, [0.0, 0.5]), (30.0, [0.02, 0])
    draws = {str(s): {"evaluations": e, "saddle_gap": g} for s, (e, g) in enumerate(entries)}
    s = comparison.spread(draws)
    assert (s.median, s.least, s.most) == (30.0, 10.0, math.inf)
    assert (s.draws, s.arrived, s.faithful) == (3, 2, 1)


def test_the_walk_ends_at_settings_with_no_better_neighbour():
    c, steps = case("P1", 2), METHODS["gd-1e-2"].settings["step"]
    walks = [
        best_settings("gd-1e-2", c, seed=2, max_steps=400, start={"step": step})
        for step in (steps[4], 1.0)
    ]
    assert walks[0][0] == walks[1][0] and walks[0][0]["step"] > steps[4]


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
        losses = torch.tensor(run.losses, dtype=torch.float64)
        assert torch.allclose(losses, result.levels, rtol=1e-3, atol=1e-4)
    gd = int((result.losses <= 0.01).nonzero()[0, 0])
    path = result.skipped.path
    assert float(path.evaluations[(path.losses <= 0.01).nonzero()[0, 0]]) < gd


def test_measures_of_a_wrong_path_are_bad():
    c = case("P2")
    result = comparison.measures(run_method("gd-1e-1", c, {"step": 0.5}, max_steps=5), c)
    assert result["evaluations"] is None and max(result["saddle_gap"]) > 0.1


def test_recovery_record_has_every_draw():
    found = completion.measure_generalises.judge(read_record("completion"))
    kept = recorded("saddles/skip-generalises")  # what the chapter draws and what it quotes
    np.testing.assert_allclose(found.measured, kept["measured"], rtol=0.05)
    assert len(found.seeds) == completion.Config().seeds
    values, *masks = completion.table(0)
    assert values.shape == (30, 40) and bool((sum(masks) == 1).all())  # every entry is used once
    assert math.isclose(float(masks[0].mean()), 0.5, abs_tol=0.05)
