"""The recorded ledger: written plainly, rewritten only where a number moved."""

import copy
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import paper.__main__ as command_line
from counting import wait_for
from paper import ledger
from paper.claims import Claim

ROOT = Path(__file__).parents[2]

ENTRY = {"id": "saddles/example", "thesis": "ours", "statement": "two is two", "label": "l"}
ENTRY |= {"status": "proved", "range": "none", "refuted_by": "anything else", "tests": ["t"]}
ENTRY |= {"measure": "ledger_example:two", "figures": ["f"]}
ENTRY |= {"predicate": "abs(measured - predicted) <= tolerance"}
EXAMPLE = """
import time
from pathlib import Path
from paper.claims import Evidence
from paper.ledger import RECORDED
def two(*, quick):
    return Evidence(measured=[2.0, 2.0 if quick else 2.1], predicted=2.0, tolerance=0.2, seeds=[7])
def broken(*, quick):
    raise RuntimeError("no data")
def stored(*, quick):
    if not quick:
        RECORDED.with_name("deep.nc").read_bytes()
    return two(quick=quick)
def endless(*, quick):
    Path(__file__).with_name("started").touch()
    time.sleep(600)
"""


@pytest.fixture
def book(tmp_path, monkeypatch):
    (tmp_path / "ledger_example.py").write_text(EXAMPLE)
    (tmp_path / "claims.yml").write_text(yaml.safe_dump([ENTRY]))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def claims(file, *changes):
    """Write a list of claims, each with changes; their ids."""
    file.write_text(yaml.safe_dump([ENTRY | change for change in changes]))


def test_a_record_stays_unless_a_number_moved(book):
    claim = Claim(**ENTRY)
    old = ledger.measured_record(claim)
    assert old["measured"] == [2.0, 2.1] and old["quick"]["measured"] == [2.0, 2.0]
    assert old["verdict"] == old["quick"]["verdict"] == "holds"
    near = {**old, "measured": [2.0, 2.1 * (1 + 1e-9)], "provenance": {"function": "another"}}
    far = {**old, "measured": [2.0, 2.2]}
    quick = {**old, "quick": {**old["quick"], "measured": [2.0, 3.0]}}
    assert ledger.settle(claim, old, near) == (old, [])
    assert ledger.settle(claim, old, far) == (far, ["measured"])
    assert ledger.settle(claim, old, quick) == (quick, ["quick measured"])
    assert ledger.settle(claim, None, near) == (near, ["new"])
    hand = {**old, "measured": [2.0, 2.3]}
    assert ledger.settle(claim, hand, old) == (old, ["the record had been edited"])


def edited(entry, *path, value):
    """A copy of a record in which the number at `path` is `value`."""
    place = new = copy.deepcopy(entry)
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return new


EDITS = [
    (("measured", 1), 2.3, "full verdict is 'holds', not 'fails'"),
    (("quick", "measured", 1), 2.3, "quick verdict is 'holds', not 'fails'"),
    (("verdict",), "fails", "full verdict is 'fails', not 'holds'"),
    (("quick", "verdict"), "fails", "the short measurement has another verdict"),
    (("tolerance",), 1e9, "full: saddles/example: tolerance = 1e+09"),
    (("measured", 1), 2.2 - 1e-7, "full: saddles/example: reproduce"),
    (("status",), "observed", "full status is 'observed', not 'proved'"),
    (("thesis",), "000", "full thesis is '000', not 'ours'"),
    (("id",), "saddles/other", "full id is 'saddles/other', not 'saddles/example'"),
    (("measured", 1), 2.1 + 1e-12, None),
    (("seeds",), [8], None),
    (("provenance", "python"), "2.7", None),
]


@pytest.mark.parametrize(("path", "value", "fault"), EDITS)
def test_an_edited_record_is_found_without_its_checksum(book, path, value, fault):
    """By its checksum; and, where the verdict follows from what was edited, by a new checksum too."""
    claim, file = Claim(**ENTRY), book / "results" / "claims.json"
    found = ledger.measured_record(claim)
    new = edited(found, *path, value=value)
    assert not ledger.faults(claim, found)
    assert "its checksum is another" in ledger.faults(claim, new)
    ledger.write_ledger(file, [new])
    with pytest.raises(ValueError, match=rf"edited.*{new['id']}.*measure again"):
        ledger.read_ledger(file)
    sealed = ledger.faults(claim, ledger.sealed(new))
    assert fault is None or any(one.startswith(fault) for one in sealed), sealed


def test_a_record_says_what_measured_it(book):
    found = ledger.measured_record(Claim(**ENTRY))["provenance"]
    assert found["function"] == ENTRY["measure"]
    names = "code python torch numpy scipy scikit-learn machine instructions"
    assert set(names.split()) <= set(found)
    assert "from_record" not in found
    assert not (ROOT / ".git").exists() or len(found["commit"]) == 12
    stored = ledger.measured_record(Claim(**ENTRY | {"measure": "ledger_example:stored"}))
    assert stored["provenance"]["from_record"] == ["results/deep.nc"]


def test_measuring_one_claim_leaves_the_records_of_the_others(book):
    other, file = {"id": "saddles/other"}, book / "results" / "claims.json"
    claims(book / "claims.yml", {}, other)
    found = (ledger.measured_record(Claim(**ENTRY | e)) for e in ({}, other))
    old = [ledger.sealed({**record, "provenance": {"function": "old"}}) for record in found]
    ledger.write_ledger(file, [old[0], ledger.sealed({**old[1], "measured": [2.0, 2.05]})])
    assert command_line.main(["claims", "saddles/other", "--root", str(book), "--jobs", "1"]) == 0
    _, new = ledger.read_ledger(file)
    assert new["saddles/example"] == old[0]
    assert new["saddles/other"]["provenance"]["code"] == ledger.code_digest()


def test_written_ledger_reads_back(tmp_path, book):
    path, found = tmp_path / "results" / "claims.json", ledger.measured_record(Claim(**ENTRY))
    assert ledger.read_ledger(path) == ({}, {})
    ledger.write_ledger(path, [found])
    assert ledger.read_ledger(path) == ({"format": 2}, {"saddles/example": found})
    assert '   "measured": [2.0, 2.1]' in path.read_text()  # one line a list, for readable diffs


def test_a_chapter_can_quote_a_record(tmp_path):
    path = tmp_path / "claims.json"
    entry = {"id": "a/b", "measured": [1.0], "predicted": 2.0, "details": {"runs": 7}}
    ledger.write_ledger(path, [ledger.sealed(entry)])
    assert ledger.recorded("a/b", path=path) == {"measured": [1.0], "predicted": 2.0, "runs": 7}
    with pytest.raises(ValueError, match="a/c"):
        ledger.recorded("a/c", path=path)


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
    claims(book / "claims.yml", {"measure": "ledger_example:broken"})
    assert command_line.main(["claims", "--root", str(book), "--jobs", "1"]) == 1
    assert "saddles/example: RuntimeError: no data" in capsys.readouterr().err
    assert command_line.main(["claims", "no/such", "--root", str(book)]) == 1
    assert "unknown claims: no/such" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"header": {}}', '{"header": {}, "claims": [3]}', "\xff"]
)
def test_a_damaged_ledger_is_told_in_one_sentence(book, capsys, text):
    (book / "results").mkdir()
    (book / "results" / "claims.json").write_text(text, encoding="latin1")
    assert command_line.main(["claims", "--root", str(book)]) == 2
    assert "claims.json is damaged" in capsys.readouterr().err


def test_other_faults_of_the_command_are_told_in_one_sentence(book, capsys):
    assert command_line.main(["claims", "--root", str(book / "nowhere")]) == 2
    assert "claims.yml" in capsys.readouterr().err
    for jobs in ("0", "-1", "two"):
        with pytest.raises(SystemExit) as stopped:
            command_line.main(["claims", "--root", str(book), "--jobs", jobs])
        assert stopped.value.code == 2
        assert f"{jobs!r}: allowed" in capsys.readouterr().err


def test_an_edited_record_is_measured_again(book, capsys):
    file = book / "results" / "claims.json"
    ledger.write_ledger(
        file, [edited(ledger.measured_record(Claim(**ENTRY)), "measured", 1, value=2.15)]
    )
    assert command_line.main(["claims", "--root", str(book), "--jobs", "1"]) == 0
    assert "the record had been edited" in capsys.readouterr().out
    assert ledger.read_ledger(file)[1]["saddles/example"]["measured"] == [2.0, 2.1]


STOPPED = "stopped; the records of finished claims are kept\n"


@pytest.mark.parametrize(
    ("number", "code", "words"), [(signal.SIGKILL, -9, ""), (signal.SIGINT, 130, STOPPED)]
)
def test_workers_end_with_their_parent(book, number, code, words):
    endless = {"measure": "ledger_example:endless"}
    claims(book / "claims.yml", {"id": "saddles/0"} | endless, {"id": "saddles/1"} | endless)
    command = [sys.executable, "-m", "paper", "claims", "--root", str(book), "--jobs", "2"]
    own = os.environ | {"PYTHONPATH": f"{ROOT / 'lib'}{os.pathsep}{book}"}
    parent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=own)
    wait_for((book / "started").exists, 120)
    parent.send_signal(number)
    # The workers hold the other end of this pipe: it is at its end only when all of them are.
    assert parent.communicate(timeout=60)[1] == words
    assert parent.returncode == code


def test_the_exponent_check_is_a_command(capsys):
    arguments = ["exponent-check", "dp(1/2)", "--sizes", "64", "256", "--runs", "4"]
    assert command_line.main([*arguments, "--quantities", "own_contribution"]) == 1
    said = capsys.readouterr().out
    # Two sizes leave no interval.
    assert "own_contribution" in said and "? interval too wide" in said
    with pytest.raises(SystemExit):
        command_line.main(["exponent-check", "no such scheme"])
    assert "no such scheme" in capsys.readouterr().err
