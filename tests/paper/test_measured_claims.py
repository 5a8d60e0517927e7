"""Every claim is measured again, shortly: same verdict, same numbers as recorded.

The cases of this file are handed out to any process (see conftest.SPREAD).
"""

from pathlib import Path

import pytest

from paper.claims import measure, moved, read_claims, record
from paper.ledger import QUICK_FIELDS, RECORDED, read_ledger

ROOT = Path(__file__).parents[2]
CLAIMS = read_claims(ROOT / "claims.yml")
RECORDS = read_ledger(RECORDED)[1]


def _check(claim):
    assert claim.id in RECORDS, "no record: run `make claims`"
    recorded = RECORDS[claim.id]
    fresh = record(claim, measure(claim, quick=True))
    fresh = {name: fresh[name] for name in QUICK_FIELDS}
    changed = moved(recorded["quick"], fresh, claim.reproduce, claim.reproduce_absolute)
    assert not changed, "\n".join(f"{name}: {how}" for name, how in changed.items())
    assert fresh["verdict"] == recorded["verdict"], "the short measurement disagrees with the full"


@pytest.mark.parametrize("claim", [c for c in CLAIMS if not c.audit], ids=lambda c: c.id)
def test_measurement_repeats_the_record(claim):
    _check(claim)


@pytest.mark.parametrize(
    "name", [i for i, entry in RECORDS.items() if "from_record" in entry["provenance"]]
)
def test_stored_runs_give_the_full_numbers(name):
    """Where the full measurement only evaluates stored runs, it is repeated too."""
    (claim,) = (c for c in CLAIMS if c.id == name)
    fresh = record(claim, measure(claim))
    recorded = {field: RECORDS[name][field] for field in fresh}
    assert not moved(recorded, fresh, claim.reproduce, claim.reproduce_absolute)


@pytest.mark.audit
@pytest.mark.parametrize("claim", [c for c in CLAIMS if c.audit], ids=lambda c: c.id)
def test_slow_measurement_repeats_the_record(claim):
    _check(claim)
