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


def test_a_crash_is_no_kill_and_neither_an_idle_change_nor_one_without_end(monkeypatch):
    kept, claim = "print(json.dumps({'verdict': 'holds'}))", {"claim": "kernels/gradients-exact"}
    place = claim | {"file": "learning_dynamics/kernels/weights.py", "old": "g @ h.mT)"}

    def outcome(new, measure=mutants.MEASURE):
        monkeypatch.setattr(mutants, "MEASURE", measure)
        return mutants.try_mutant(place | {"new": new}, "holds", 60 if measure != endless else 1)[0]

    endless = "import time; time.sleep(600)"
    assert outcome("g @ missing)") == "broken" and outcome("2 * g @ h.mT)") == "killed"
    assert outcome("1 * g @ h.mT)", f"import json; {kept}") == "alive"
    assert outcome("1 * g @ h.mT)", endless) == "endless"


@pytest.mark.audit
def test_every_mutant_is_killed():
    counts = mutants.main(jobs=JOBS)
    note("mutants", {"claims": len(TABLE), **counts})
    assert counts["killed"] + counts["refused"] == len(TABLE), counts
