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
CLAIM, OTHER = Claim(**ENTRY), {"id": "saddles/other"}
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
    claims(tmp_path, {})
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def claims(book, *changes):
    """Write a list of claims, each with changes."""
    (book / "claims.yml").write_text(yaml.safe_dump([ENTRY | change for change in changes]))


def run(book, *words):
    """The exit status of the command, and the records afterwards."""
    status = command_line.main(["claims", *words, "--root", str(book), "--jobs", "1"])
    return status, ledger.read_ledger(book / "results" / "claims.json")[1]


def edited(entry, *path, value):
    """A copy of a record in which the number at `path` is `value`."""
    place = new = copy.deepcopy(entry)
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return new


def test_a_record_stays_unless_a_number_moved(book):
    old = ledger.measured_record(CLAIM)
    assert old["measured"] == [2.0, 2.1] and old["quick"]["measured"] == [2.0, 2.0]
    assert old["verdict"] == old["quick"]["verdict"] == "holds"
    near = {**old, "measured": [2.0, 2.1 * (1 + 1e-9)], "provenance": {"function": "another"}}
    assert ledger.settle(CLAIM, old, near) == (old, [])
    assert ledger.settle(CLAIM, None, near) == (near, ["new"])
    for path, why in ((("measured", 1), "measured"), (("quick", "measured", 1), "quick measured")):
        moved = edited(old, *path, value=2.2)
        assert ledger.settle(CLAIM, old, moved) == (moved, [why])
        assert ledger.settle(CLAIM, moved, old) == (old, ["the record had been edited"])


EDITS = [
    (("measured", 1), 2.3, "full verdict is 'holds', not 'fails'"),
    (("quick", "measured", 1), 2.3, "quick verdict is 'holds', not 'fails'"),
    (("verdict",), "fails", "full verdict is 'fails', not 'holds'"),
    (("quick", "verdict"), "fails", "the short measurement has another verdict"),
    (("tolerance",), 1e9, "full: saddles/example: tolerance = 1e+09"),
    (("measured", 1), 2.2 - 1e-7, "full: saddles/example: reproduce"),
    (("status",), "observed", "full status is 'observed', not 'proved'"),
    (("id",), "saddles/other", "full id is 'saddles/other', not 'saddles/example'"),
    (("measured", 1), 2.1 + 1e-12, None),
    (("seeds",), [8], None),
    (("provenance", "python"), "2.7", None),
]


@pytest.mark.parametrize(("path", "value", "fault"), EDITS)
def test_an_edited_record_is_found_without_its_checksum(book, path, value, fault):
    """By its checksum; and, where the verdict follows from what was edited, by a new checksum too."""
    file, found = book / "results" / "claims.json", ledger.measured_record(CLAIM)
    new = edited(found, *path, value=value)
    assert not ledger.faults(CLAIM, found)
    assert "its checksum is another" in ledger.faults(CLAIM, new)
    ledger.write_ledger(file, [new])
    with pytest.raises(ValueError, match=rf"edited.*{new['id']}.*measure again"):
        ledger.read_ledger(file)
    sealed = ledger.faults(CLAIM, ledger.sealed(new))
    assert fault is None or any(one.startswith(fault) for one in sealed), sealed


def test_a_record_says_what_measured_it(book):
    found = ledger.measured_record(CLAIM)["provenance"]
    names = "code python torch numpy scipy scikit-learn machine instructions"
    assert found["function"] == ENTRY["measure"] and set(names.split()) <= set(found)
    assert "from_record" not in found
    assert not (ROOT / ".git").exists() or len(found["commit"]) == 12
    stored = ledger.measured_record(Claim(**ENTRY | {"measure": "ledger_example:stored"}))
    assert stored["provenance"]["from_record"] == ["results/deep.nc"]


def test_the_command_writes_what_moved_and_leaves_the_records_of_the_others(book, capsys):
    file = book / "results" / "claims.json"
    claims(book, {}, OTHER)
    status, first = run(book)
    assert status == 0 and "saddles/example: holds" in capsys.readouterr().out
    assert '   "measured": [2.0, 2.1]' in file.read_text()  # one line a list, for readable diffs
    assert run(book) == (0, first) and "nothing moved" in capsys.readouterr().out
    old = [
        ledger.sealed({**record, "provenance": {"function": "old"}}) for record in first.values()
    ]
    ledger.write_ledger(file, [old[0], ledger.sealed({**old[1], "measured": [2.0, 2.05]})])
    status, new = run(book, "saddles/other")
    assert status == 0 and new["saddles/example"] == old[0]
    assert new["saddles/other"]["provenance"]["code"] == ledger.code_digest()


def test_an_edited_record_is_measured_again(book, capsys):
    record = edited(ledger.measured_record(CLAIM), "measured", 1, value=2.15)
    ledger.write_ledger(book / "results" / "claims.json", [record])
    status, found = run(book)
    assert status == 0 and "the record had been edited" in capsys.readouterr().out
    assert found["saddles/example"]["measured"] == [2.0, 2.1]


def test_faults_of_the_command_are_told_in_one_sentence(book, capsys):
    claims(book, {"measure": "ledger_example:broken"})
    results = book / "results"
    results.mkdir()
    for text, words, status, told in (
        (None, [], 1, "saddles/example: RuntimeError: no data"),
        (None, ["no/such"], 1, "unknown claims: no/such"),
        ('{"header": {}, "claims": [3]}', [], 2, "claims.json is damaged"),
        ("\xff", [], 2, "claims.json is damaged"),
    ):
        if text:
            (results / "claims.json").write_text(text, encoding="latin1")
        assert command_line.main(["claims", *words, "--root", str(book), "--jobs", "1"]) == status
        assert told in capsys.readouterr().err
    assert command_line.main(["claims", "--root", str(results)]) == 2
    assert "claims.yml" in capsys.readouterr().err
    for arguments in (["claims", "--jobs", "0"], ["exponent-check", "no such scheme"]):
        with pytest.raises(SystemExit) as stopped:
            command_line.main(arguments)
        assert stopped.value.code == 2 and repr(arguments[-1]) in capsys.readouterr().err


STOPPED = "stopped; the records of finished claims are kept\n"


@pytest.mark.parametrize(
    ("number", "code", "words"), [(signal.SIGKILL, -9, ""), (signal.SIGINT, 130, STOPPED)]
)
def test_workers_end_with_their_parent(book, number, code, words):
    claims(book, *({"id": f"saddles/{i}", "measure": "ledger_example:endless"} for i in (0, 1)))
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
    # Two sizes leave no interval.
    assert "own_contribution" in (said := capsys.readouterr().out) and "? interval too wide" in said
