"""The ledger: reading, predicates, verdicts; every claim names things that exist."""

import ast
import dataclasses
from pathlib import Path

import pytest
from labels import chapter_texts, figures, labels
from learning_dynamics.claims import Claim, Evidence, evaluate, moved, read_claims, verdict
from learning_dynamics.ledger import read_ledger

ROOT = Path(__file__).parent.parent
CLAIMS = read_claims(ROOT / "claims.yml")
TEXTS = chapter_texts(ROOT).values()
LABELS = labels(TEXTS)
FIGURES = set().union(*map(figures, TEXTS))


def claim(**changes):
    fields = {
        "id": "saddles/example", "thesis": "000", "statement": "s", "label": "l",
        "status": "observed", "range": "r", "refuted_by": "x", "measure": "m:f",
        "predicate": "abs(measured - predicted) <= tolerance", "tests": ["t"], "figures": ["f"],
    }
    return Claim(**fields | changes)


def test_verdict_is_computed_from_the_numbers():
    near, far = Evidence(1.001, 1.0, 0.01), Evidence(1.1, 1.0, 0.01)
    assert verdict(claim(), near) == "holds"
    assert verdict(claim(), far) == "fails"


def test_printed_statement_decides_between_holds_and_holds_corrected():
    stronger = claim(printed="measured == predicted")
    assert verdict(stronger, Evidence(1.0, 1.0, 0.01)) == "holds"
    assert verdict(stronger, Evidence(1.001, 1.0, 0.01)) == "holds-corrected"
    assert verdict(stronger, Evidence(1.1, 1.0, 0.01)) == "fails"


@pytest.mark.parametrize(
    ("expression", "truth"),
    [
        ("all(a < 3)", True),
        ("any(a > 2)", False),
        ("a[0] == 1 and a[-1] == 2", True),
        ("not (a[0] == 1)", False),
        ("0 < a[0] < 2", True),
        ("max(a) - min(a) == 1 or b == 0", True),
        ("sum(diff(a)) == 1", True),
        ("mean(a) == 1.5 and len(a) == 2", True),
        ("(a[0] == 1) & (a[1] == 2) | (b > 10)", True),
    ],
)
def test_predicates(expression, truth):
    import numpy as np

    assert evaluate(expression, {"a": np.array([1.0, 2.0]), "b": np.array(5.0)}) is truth


@pytest.mark.parametrize("expression", ["__import__('os')", "a.size", "unknown > 1", "[1, 2]", "a[b]"])
def test_predicates_are_no_programs(expression):
    with pytest.raises(ValueError, match="cannot use"):
        evaluate(expression, {"a": 1.0, "b": 0})


def test_evidence_must_be_finite():
    with pytest.raises(ValueError, match="measured"):
        Evidence(float("nan"), 1.0, 0.1)


@pytest.mark.parametrize("change", [{"status": "certain"}, {"thesis": "001"}])
def test_unknown_words_are_refused(change):
    with pytest.raises(ValueError, match="allowed"):
        claim(**change)


def test_an_id_may_be_used_once(tmp_path):
    import yaml

    entry = dataclasses.asdict(claim())
    file = tmp_path / "claims.yml"
    file.write_text(yaml.safe_dump([entry, entry]))
    with pytest.raises(ValueError, match="saddles/example"):
        read_claims(file)
    file.write_text(yaml.safe_dump([entry | {"verdict": "holds"}]))
    with pytest.raises(ValueError, match="verdict"):
        read_claims(file)  # a verdict cannot be typed


def test_moved_names_what_moved():
    old = {"id": "a", "verdict": "holds", "measured": [1.0, 2.0], "details": {"rank": 3}}
    same = {"id": "a", "verdict": "holds", "measured": [1.0, 2.0 + 1e-9], "details": {"rank": 3}}
    new = {"id": "a", "verdict": "fails", "measured": [1.0, 2.1], "details": {"rank": 4}}
    assert moved(old, same, 1e-6) == []
    assert moved(old, new, 1e-6) == ["measured", "rank", "verdict"]
    assert moved(old, {**old, "measured": [1.0]}, 1e-6) == ["measured"]


def _tests_in(file):
    tree = ast.parse((ROOT / file).read_text())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}::{f.name}" for f in node.body if isinstance(f, ast.FunctionDef))


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
class TestEachClaim:
    def test_names_tests_that_exist(self, claim):
        assert claim.tests
        for test in claim.tests:
            file, _, name = test.partition("::")
            assert (ROOT / file).is_file(), f"{file} is missing"
            assert not name or name.partition("[")[0] in set(_tests_in(file)), f"{test} is missing"

    def test_names_a_label_and_figures_that_exist(self, claim):
        assert claim.label in LABELS, f"label {claim.label} is missing"
        assert claim.figures or claim.status in ("proved", "derived"), "only an identity may lack a figure"
        assert set(claim.figures) <= FIGURES, set(claim.figures) - FIGURES

    def test_names_a_function_that_exists(self, claim):
        module, _, function = claim.measure.partition(":")
        path = ROOT / "lib" / Path(*module.split(".")).with_suffix(".py")
        assert path.is_file()
        names = {n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef)}
        assert function in names or f"{function}" in path.read_text()

    def test_has_a_record(self, claim):
        records = read_ledger(ROOT / "results" / "claims.json")[1]
        assert claim.id in records, "run `make claims` (or `make audit`)"
        assert records[claim.id]["status"] == claim.status


def test_no_record_without_a_claim():
    records = read_ledger(ROOT / "results" / "claims.json")[1]
    assert set(records) <= {claim.id for claim in CLAIMS}
