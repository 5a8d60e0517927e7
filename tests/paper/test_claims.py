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
    stronger, weaker = (claim(printed=p) for p in ("measured == predicted", "measured > 0"))
    for value, ours, printed in (
        (1.0, "holds", "holds"),
        (1.001, "holds", "holds-corrected"),
        (1.1, "fails", "fails"),
    ):
        evidence = Evidence(value, 1.0, 0.01)
        assert verdict(stronger, evidence) == printed
        assert verdict(claim(), evidence) == verdict(weaker, evidence) == ours


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


ENTRY, OWN = yaml.safe_dump([FIELDS]), "saddles/example: "
REFUSED = [
    (OWN + "tolerance = .*at most", lambda: record(claim(), Evidence(5.0, 1.0, 0.51))),
    (OWN + "tolerance = .*at most", lambda: record(claim(), Evidence([0.01, 0.1], 0.0, 0.11))),
    ("measured", lambda: Evidence(float("nan"), 1.0, 0.1)),
    (OWN + "status.*allowed", lambda: claim(status="certain")),
    (OWN + "thesis.*allowed", lambda: claim(thesis="001")),
    (OWN + "reproduce = .*allowed", lambda: claim(reproduce=0.2)),
    (OWN + "reproduce = .*allowed", lambda: claim(reproduce=float("nan"))),
    (OWN + "reproduce_absolute = .*allowed", lambda: claim(reproduce_absolute=float("inf"))),
    *(("claims.yml: (no YAML|holds)", text) for text in ("a: [", "a: 1", "- 3")),
    ("used twice: saddles/example", ENTRY * 2),
    ("verdict", yaml.safe_dump([FIELDS | {"verdict": "holds"}])),  # which none can type
]


@pytest.mark.parametrize(("message", "bad"), REFUSED)
def test_what_is_no_evidence_and_no_list_of_claims_is_refused(tmp_path, message, bad):
    if isinstance(bad, str):
        (tmp_path / "claims.yml").write_text(bad)
    with pytest.raises(ValueError, match=message):
        bad() if callable(bad) else read_claims(tmp_path / "claims.yml")


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
    assert runs == [Few(2), Few(4)]  # each run once
    wrong = dataclasses.replace(CLAIMS[0], measure=CLAIMS[1].measure)
    with pytest.raises(ValueError, match=f"{wrong.id}: .* measures '{CLAIMS[1].id}'"):
        paper.claims.measure(wrong, quick=True)


def test_moved_names_what_moved_and_by_how_much():
    old = {"id": "a", "verdict": "holds", "measured": [1.0, 2.0], "details": {"rank": 3}}
    new = {"id": "a", "verdict": "fails", "measured": [1.0, 2.5], "details": {"rank": 4}}
    assert moved(old, {**old, "measured": [1.0, 2.0 + 1e-9]}, 1e-6) == {}
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
def test_a_claim_names_what_exists_and_its_record_follows_from_its_numbers(claim):
    assert claim.tests and (claim.sentence or claim.thesis == "ours")
    for test in claim.tests:
        file, *names = test.split("::")
        assert {n.partition("[")[0] for n in names} <= _tests_in(file), f"{test} is missing"
    assert claim.label in LABELS, f"label {claim.label} is missing"
    assert claim.figures or claim.status in ("proved", "derived")  # an identity may lack one
    assert set(claim.figures) <= FIGURES, set(claim.figures) - FIGURES
    module, _, function = claim.measure.partition(":")
    function = getattr(importlib.import_module(module), function)
    assert getattr(function, "claim", claim.id) == claim.id
    assert claim.id in RECORDS, "run `make claims` (or `make audit`)"
    assert not faults(claim, RECORDS[claim.id])
    details = RECORDS[claim.id]["details"].keys()
    assert {"measured"} | details <= claim.names.keys()
    assert claim.names.keys() <= {"measured", "predicted", "tolerance"} | details


def test_no_record_without_a_claim():
    assert set(RECORDS) <= {claim.id for claim in CLAIMS}
