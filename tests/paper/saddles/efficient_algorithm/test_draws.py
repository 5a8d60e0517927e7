"""The comparison over seeds: what counts as missed, on how many draws a verdict holds."""

import json
import math

import pytest

from paper.saddles.efficient_algorithm import seeds
from paper.saddles.efficient_algorithm.draws import (
    STATEMENTS,
    count_of,
    counts,
    read_draws,
    spread,
    spread_table,
    verdict_table,
)
from paper.saddles.efficient_algorithm.methods import METHODS, NO_SEED
from paper.saddles.efficient_algorithm.problems import CASES, case


def entry(evaluations, gaps, **more):
    return {"evaluations": evaluations, "saddle_gap": gaps, "in_order": True} | more


def test_a_missed_end_counts_as_infinite_and_a_blurred_saddle_as_not_visited():
    draws = {"0": entry(10.0, [0.001, 0.0]), "1": entry(None, [0.0, 0.5])}
    draws["2"] = entry(30.0, [0.02, 0])
    s = spread(draws)
    assert (s.median, s.least, s.most) == (30.0, 10.0, math.inf)
    assert (s.draws, s.arrived, s.faithful) == (3, 2, 1)
    assert spread(draws, "visited").median == 0.5
    row = spread_table({"tiny": draws}, ("evaluations",)).splitlines()[2]
    assert row.split() == ["|", "TINY", "|", "30", "[10,", "×]", "|", "3/3", "|"]


def test_every_problem_is_drawn_started_anew_or_fixed():
    assert sorted((*seeds.RANDOM, *seeds.STARTS, *seeds.FIXED)) == sorted(CASES)
    assert list(seeds.wanted("P8")) == []
    assert set(seeds.wanted("P5")).isdisjoint(NO_SEED) and "tiny" in set(seeds.wanted("P1"))
    first, second = (case("P9", s).problem.inputs for s in (0, 1))
    assert float((first - second).abs().max()) > 0.1
    assert case("P5", 1).problem.inputs.equal(case("P5", 2).problem.inputs)


def test_the_walk_ends_at_settings_with_no_better_neighbour():
    c = case("P1", 2)
    steps = METHODS["gd-1e-2"].settings["step"]
    settings, path = seeds.nearby_best("gd-1e-2", c, {"step": steps[4]}, seed=2, max_steps=400)
    again, _ = seeds.nearby_best("gd-1e-2", c, {"step": 1.0}, seed=2, max_steps=400)
    assert settings == again and path is not None and settings["step"] > steps[4]


def test_the_record_has_its_draws_of_all_methods_and_is_reproduced():
    draws = read_draws()
    for problem in (*seeds.RANDOM, *seeds.STARTS):
        for name in seeds.wanted(problem):
            assert len(draws[problem][name]) == 1 + len(seeds.SEEDS), (problem, name)
    assert all(len(v) == 1 for v in draws["P8"].values())
    assert json.loads(seeds.SEEDS_RECORD.read_text()).get("version", 1) == seeds.VERSION
    for name in ("tiny", "ours"):
        old, new = seeds.read_seeds()["P2"][name]["1"], seeds.run_one("P2", name, 1)
        assert new["evaluations"] == old["evaluations"] and new["svds"] == old["svds"]


FAITHFUL = ("ours", "thesis's algorithm", "GLRL", "AGF", "Neuron Pursuit")


def test_verdicts_of_the_text_hold_on_every_draw():
    draws = read_draws()
    for statement in STATEMENTS:
        found = counts(statement, draws)
        if statement.words == "visits every saddle" and statement.method in FAITHFUL:
            assert all(k == n for k, n in found.values()), statement
    for problem in ("P4", "P5", "P9"):
        kept, of = count_of(draws, problem, "ours", "the cheapest that visits every saddle")
        assert kept == of
    for problem in ("P1", "P2", "P3"):
        kept, of = count_of(draws, problem, "TINY", "every saddle, no method cheaper")
        assert kept == of
        kept, of = count_of(draws, problem, "Muon-style", "next mode above a tenth of the last")
        assert kept == of
    assert count_of(draws, "P3", "rank-one pursuit", "visits every saddle")[0] == 0
    assert len(verdict_table(draws).splitlines()) == len(STATEMENTS) + 2
    with pytest.raises(ValueError, match="no such statement on 'ours'"):
        count_of(draws, "P1", "ours", "is the best")
