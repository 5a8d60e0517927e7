"""The recorded ledger: written plainly, rewritten only where a number moved."""

import json

import learning_dynamics.__main__ as command_line
import pytest
import yaml
from learning_dynamics.claims import Claim
from learning_dynamics.ledger import (
    code_digest,
    header,
    measured_record,
    read_ledger,
    recorded,
    settle,
    write_ledger,
)

ENTRY = {
    "id": "saddles/example", "thesis": "ours", "statement": "two is two", "label": "l",
    "status": "proved", "range": "none", "refuted_by": "anything else",
    "measure": "ledger_example:two", "predicate": "abs(measured - predicted) <= tolerance",
    "tests": ["t"], "figures": ["f"],
}
EXAMPLE = """
from learning_dynamics.claims import Evidence
def two(*, quick):
    return Evidence(measured=[2.0, 2.0 if quick else 2.1], predicted=2.0, tolerance=0.2, seeds=[7])
def broken(*, quick):
    raise RuntimeError("no data")
"""


@pytest.fixture
def book(tmp_path, monkeypatch):
    (tmp_path / "ledger_example.py").write_text(EXAMPLE)
    (tmp_path / "claims.yml").write_text(yaml.safe_dump([ENTRY]))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_record_keeps_full_and_quick_numbers(book):
    found = measured_record(Claim(**ENTRY))
    assert found["measured"] == [2.0, 2.1]
    assert found["quick"]["measured"] == [2.0, 2.0]
    assert found["verdict"] == found["quick"]["verdict"] == "holds"


def test_a_record_stays_unless_a_number_moved(book):
    claim = Claim(**ENTRY)
    old = measured_record(claim)
    near = {**old, "measured": [2.0, 2.1 * (1 + 1e-9)]}
    assert settle(claim, old, near) == (old, [])
    far = {**old, "measured": [2.0, 2.2]}
    assert settle(claim, old, far) == (far, ["measured"])
    quick = {**old, "quick": {**old["quick"], "measured": [2.0, 3.0]}}
    assert settle(claim, old, quick) == (quick, ["quick measured"])
    assert settle(claim, None, near) == (near, ["new"])


def test_written_ledger_reads_back(tmp_path, book):
    path, found = tmp_path / "results" / "claims.json", measured_record(Claim(**ENTRY))
    head = header()
    write_ledger(path, head, [found])
    assert read_ledger(path) == (head, {"saddles/example": found})
    assert '   "measured": [2.0, 2.1]' in path.read_text()  # one line a list, for readable diffs
    assert len(code_digest()) == len(json.loads(path.read_text())["header"]["code"]) == 12


def test_a_chapter_can_quote_a_record(tmp_path):
    path = tmp_path / "claims.json"
    entry = {"id": "a/b", "measured": [1.0], "predicted": 2.0, "details": {"runs": 7}}
    write_ledger(path, {}, [entry])
    assert recorded("a/b", path=path) == {"measured": [1.0], "predicted": 2.0, "runs": 7}
    with pytest.raises(ValueError, match="a/c"):
        recorded("a/c", path=path)


def test_no_ledger_yet(tmp_path):
    assert read_ledger(tmp_path / "claims.json") == ({}, {})


def test_command_measures_and_writes(book, capsys):
    arguments = ["claims", "--root", str(book), "--jobs", "1"]
    assert command_line.main(arguments) == 0
    first = (book / "results" / "claims.json").read_text()
    assert command_line.main(arguments) == 0
    assert (book / "results" / "claims.json").read_text() == first
    said = capsys.readouterr().out
    assert "saddles/example: holds" in said
    assert "nothing moved" in said


def test_command_tells_of_failures(book, capsys):
    (book / "claims.yml").write_text(yaml.safe_dump([ENTRY | {"measure": "ledger_example:broken"}]))
    assert command_line.main(["claims", "--root", str(book), "--jobs", "1"]) == 1
    assert "saddles/example: RuntimeError: no data" in capsys.readouterr().err
    assert command_line.main(["claims", "no/such", "--root", str(book)]) == 1
    assert "unknown claims: no/such" in capsys.readouterr().err


def test_the_coordinate_check_is_a_command(capsys):
    from learning_dynamics.__main__ import main

    arguments = ["coordinate-check", "dp(1/2)", "--sizes", "64", "256", "--runs", "4"]
    assert main([*arguments, "--quantities", "own_contribution"]) in (0, 1)
    assert "own_contribution" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["coordinate-check", "no such scheme"])
    assert "no such scheme" in capsys.readouterr().err
