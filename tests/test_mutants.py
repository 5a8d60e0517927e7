"""Every claim's evidence can fail: the formula behind it is broken, and the verdict changes.

The mutants are tried by `make audit`; here, that there is one for each claim and that it still
changes something.
"""

from pathlib import Path

import pytest

import mutants
from audit_record import note
from paper.claims import read_claims

ROOT = Path(__file__).parent.parent
TABLE = mutants.mutants()
JOBS = 2


def test_every_claim_has_a_mutant_and_none_is_left_over():
    assert sorted(m["claim"] for m in TABLE) == sorted(
        c.id for c in read_claims(ROOT / "claims.yml")
    )


@pytest.mark.parametrize("mutant", TABLE, ids=lambda m: m["claim"])
def test_a_mutant_changes_one_place_and_still_reads_as_python(mutant):
    text = (ROOT / mutants.PACKAGE / mutant["file"]).read_text()
    assert text.count(mutant["old"]) == 1, "the formula has moved: renew tests/mutants.yml"
    assert mutant["old"] != mutant["new"]
    compile(text.replace(mutant["old"], mutant["new"]), mutant["file"], "exec")


def test_a_crash_is_no_kill_and_an_idle_change_is_alive():
    expected = mutants.recorded_verdicts()["kernels/gradients-exact"]
    place = {
        "claim": "kernels/gradients-exact",
        "file": "learning_dynamics/kernels/weights.py",
        "old": "g @ h.mT)",
    }
    assert mutants.try_mutant(place | {"new": "g @ missing)"}, expected)[0] == "broken"
    assert mutants.try_mutant(place | {"new": "1 * g @ h.mT)"}, expected)[0] == "alive"
    assert mutants.try_mutant(place | {"new": "2 * g @ h.mT)"}, expected)[0] == "killed"


def test_a_mutant_without_end_is_counted_by_name_and_stops_no_other(monkeypatch, capsys):
    claims = ["kernels/moments", "kernels/gradients-exact"]
    measure = "import sys, time\ntime.sleep(600 if sys.argv[2] == 'kernels/moments' else 0)\n"
    monkeypatch.setattr(mutants, "MEASURE", measure + 'print(\'{"verdict": "fails"}\')')
    assert mutants.main(claims, seconds=5) == {"endless": 1, "killed": 1}
    told = capsys.readouterr().out
    assert "endless: kernels/moments: holds -> no verdict after 5 s" in told
    assert "killed: kernels/gradients-exact" in told


@pytest.mark.audit
def test_every_mutant_is_killed():
    counts = mutants.main(jobs=JOBS)
    note("mutants", {"claims": len(TABLE), **counts})
    assert counts["killed"] + counts["refused"] == len(TABLE), counts
