"""The ledger: reading, predicates, verdicts; every claim names things that exist."""

import ast
import dataclasses
import importlib
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

import paper.claims
from labels import chapter_texts, figures, labels
from paper.claims import (
    Claim,
    Evidence,
    check_reproduce,
    evaluate,
    moved,
    read_claims,
    record,
    verdict,
)
from paper.ledger import faults, read_ledger
from tables import table

ROOT = Path(__file__).parents[2]
CLAIMS = read_claims(ROOT / "claims.yml")
RECORDS = read_ledger(ROOT / "results" / "claims.json")[1]
TEXTS = chapter_texts(ROOT).values()
LABELS = labels(TEXTS)
FIGURES = set().union(*map(figures, TEXTS))


FIELDS = {"id": "saddles/example", "thesis": "000", "statement": "s", "label": "l"}
FIELDS |= {"status": "observed", "range": "r", "refuted_by": "x", "measure": "m:f"}
FIELDS |= {"predicate": "abs(measured - predicted) <= tolerance", "tests": ["t"], "figures": ["f"]}


def claim(**changes):
    return Claim(**FIELDS | changes)


def test_verdict_is_computed_from_the_numbers():
    stronger = claim(printed="measured == predicted")
    for value, plain, printed in (
        (1.0, "holds", "holds"),
        (1.001, "holds", "holds-corrected"),
        (1.1, "fails", "fails"),
    ):
        evidence = Evidence(value, 1.0, 0.01)
        assert (verdict(claim(), evidence), verdict(stronger, evidence)) == (plain, printed)


def test_an_empty_printed_statement_saves_no_claim():
    weaker = claim(printed="measured > 0")
    assert verdict(weaker, Evidence(1.001, 1.0, 0.01)) == "holds"
    assert verdict(weaker, Evidence(1.1, 1.0, 0.01)) == "fails"


GIVEN = table("predicates")


@pytest.mark.parametrize(("expression", "truth"), GIVEN["true or false"])
def test_predicates(expression, truth):
    assert evaluate(expression, {"a": np.array([1.0, 2.0]), "b": np.array(5.0)}) is truth


@pytest.mark.parametrize("expression", GIVEN["no predicates"])
def test_predicates_are_no_programs(expression):
    with pytest.raises(ValueError, match="cannot use"):
        evaluate(expression, {"a": 1.0, "b": 0})


LONG = "-" * 900 + "1", "(" * 300 + "1" + ")" * 300, "1" + " + 1" * 300


@pytest.mark.parametrize(
    "expression", [*GIVEN["deciding nothing"], *(f"measured > {text}" for text in LONG)]
)
@pytest.mark.parametrize("field", ["predicate", "printed"])
def test_a_predicate_that_decides_nothing_is_refused(field, expression):
    with pytest.raises(ValueError, match=r"saddles/example: predicate"):
        claim(**{field: expression})


LIMITED = [("reproduce", x) for x in (1e9, 0.2, -1e-6, float("nan"))]
LIMITED += [("reproduce_absolute", x) for x in (-1.0, float("inf"))]


@pytest.mark.parametrize(("name", "value"), LIMITED)
def test_what_may_pass_as_the_same_number_is_limited(name, value):
    with pytest.raises(ValueError, match=rf"saddles/example: {name} = .*allowed"):
        claim(**{name: value})


TURNING = [
    ({"reproduce": 0.02}, Evidence(1.0, 1.005, 0.01)),  # 0.02 from the verdict's other side
    ({"reproduce": 0.1}, Evidence([1.5, 2.5], [1.5, 2.5], [0.5, 0.1])),
    ({"reproduce_absolute": 1e-9}, Evidence(1e-16, 0.0, 1e-12)),  # rounding: the bound is passed
    ({"reproduce_absolute": 0.02}, Evidence(1.0, 1.0, 0.1)),  # a hundredth of a number and more
    ({"reproduce": 0.1}, Evidence(30.0, 30.0, 1.0)),  # three whole steps
]
STAYING = [
    ({"reproduce": 0.004}, Evidence(1.0, 1.005, 0.01)),
    ({"reproduce_absolute": 1e-13}, Evidence(1e-16, 0.0, 1e-12)),
    ({"reproduce": 0.03}, Evidence(30.0, 30.0, 1.0)),
]


def test_no_verdict_can_turn_within_what_passes_as_the_same():
    for changes, evidence in TURNING:
        with pytest.raises(ValueError, match=r"saddles/example: reproduce.*(allowed|at most)"):
            check_reproduce(claim(**changes), evidence)
    for changes, evidence in STAYING:
        check_reproduce(claim(**changes), evidence)


@pytest.mark.parametrize(
    "evidence",
    [Evidence(5.0, 1.0, 1e9), Evidence(5.0, 1.0, 0.51), Evidence([0.01, 0.1], 0.0, 0.11)],
)
def test_a_tolerance_that_lets_everything_pass_is_refused(evidence):
    with pytest.raises(ValueError, match=r"saddles/example: tolerance = .*at most"):
        record(claim(), evidence)


def test_evidence_must_be_finite():
    with pytest.raises(ValueError, match="measured"):
        Evidence(float("nan"), 1.0, 0.1)


@pytest.mark.parametrize("change", [{"status": "certain"}, {"thesis": "001"}])
def test_unknown_words_are_refused(change):
    with pytest.raises(ValueError, match="allowed"):
        claim(**change)


ENTRY = yaml.safe_dump([FIELDS])
NO_CLAIMS = dict.fromkeys(["a: [", "a: 1", "- 3", "5"], r"claims.yml: (no YAML|holds)")
NO_CLAIMS |= {ENTRY * 2: "saddles/example"}  # an id may be used once
NO_CLAIMS |= {yaml.safe_dump([FIELDS | {"verdict": "holds"}]): "verdict"}  # which none can type


@pytest.mark.parametrize(("text", "message"), NO_CLAIMS.items())
def test_what_is_no_list_of_claims_is_refused(tmp_path, text, message):
    (tmp_path / "claims.yml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_claims(tmp_path / "claims.yml")


@dataclasses.dataclass(frozen=True)
class Few:
    seeds: int = 4

    def quick(self):
        return Few(2)


def test_a_judge_of_a_run_is_a_measurement_in_plain_numbers():
    runs = []

    def run(config):
        runs.append(config)
        return xr.Dataset({"x": ("seed", [1 / 3] * config.seeds)}, {"seed": range(config.seeds)})

    @paper.claims.claim("saddles/example", Few, run)
    def judge(found):
        return Evidence(found.x, found.x.max(), 0.1, found.seed, {"all": found.x.values})

    third = 0.333333333  # nine digits are kept
    assert judge(quick=True) == Evidence([third] * 2, third, 0.1, [0, 1], {"all": [third] * 2})
    assert len(judge(quick=False).measured) == len(judge().measured) == 4
    assert judge.claim == "saddles/example" and runs == [Few(2), Few(4)]  # each run once


def test_a_measurement_serves_its_own_claim_only():
    by_id = {claim.id: claim for claim in CLAIMS}
    other = by_id["saddles/any-loss"].measure
    wrong = dataclasses.replace(by_id["saddles/plateau-length"], measure=other)
    with pytest.raises(ValueError, match=r"plateau-length: .* measures 'saddles/any-loss'"):
        paper.claims.measure(wrong, quick=True)


def test_moved_names_what_moved_and_by_how_much():
    old = {"id": "a", "verdict": "holds", "measured": [1.0, 2.0], "details": {"rank": 3}}
    same = {"id": "a", "verdict": "holds", "measured": [1.0, 2.0 + 1e-9], "details": {"rank": 3}}
    new = {"id": "a", "verdict": "fails", "measured": [1.0, 2.5], "details": {"rank": 4}}
    assert moved(old, same, 1e-6) == {}
    how = "recorded {}, now {}: moved by {} ({} relative), allowed {}"
    assert moved(old, new, 1e-3, 1e-2) == {
        "measured": "[1] " + how.format(2, 2.5, 0.5, 0.25, 0.012),
        "rank": how.format(3, 4, 1, 0.33, 0.013),
        "verdict": "recorded 'holds', now 'fails'",
    }
    assert moved(old, {**old, "measured": [1.0]}, 1e-6) == {
        "measured": "recorded [1.0, 2.0], now [1.0]"
    }
    assert moved(old, {**old, "details": {}}, 1e-6) == {"rank": "recorded 3, now None"}


def _tests_in(file):
    return {n.name for n in ast.walk(ast.parse((ROOT / file).read_text())) if hasattr(n, "name")}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
class TestEachClaim:
    def test_names_tests_that_exist(self, claim):
        assert claim.tests
        for test in claim.tests:
            file, *names = test.split("::")
            assert (ROOT / file).is_file(), f"{file} is missing"
            assert {n.partition("[")[0] for n in names} <= _tests_in(file), f"{test} is missing"

    def test_names_a_label_and_figures_that_exist(self, claim):
        assert claim.label in LABELS, f"label {claim.label} is missing"
        assert claim.figures or claim.status in ("proved", "derived")  # an identity may lack one
        assert set(claim.figures) <= FIGURES, set(claim.figures) - FIGURES

    def test_names_a_function_that_exists(self, claim):
        module, _, function = claim.measure.partition(":")
        function = getattr(importlib.import_module(module), function)
        assert callable(function)
        assert getattr(function, "claim", claim.id) == claim.id

    def test_names_its_numbers_and_quotes_its_thesis(self, claim):
        recorded = RECORDS[claim.id]
        numbers = {"measured", "predicted", "tolerance", *recorded["details"]}
        assert {"measured", *recorded["details"]} <= claim.names.keys() <= numbers
        assert claim.sentence or claim.thesis == "ours"

    def test_record_follows_from_its_numbers(self, claim):
        assert claim.id in RECORDS, "run `make claims` (or `make audit`)"
        assert not faults(claim, RECORDS[claim.id])


def test_no_record_without_a_claim():
    assert set(RECORDS) <= {claim.id for claim in CLAIMS}
