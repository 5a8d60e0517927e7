"""results/audit.json: what the slow checks of `make audit` found when they were last run."""

import fcntl
import json
from pathlib import Path

__all__ = ["RECORD", "note"]

RECORD = Path(__file__).resolve().parent.parent / "results" / "audit.json"


def note(check, found, file=RECORD):
    """Put `found`, a dict of counts, under the name of a check; the other checks stay.

    Checks run side by side: each takes the lock beside the file, and the file is replaced whole.
    """
    file = Path(file)
    lock = file.with_suffix(".lock")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        record = json.loads(file.read_text()) if file.exists() else {}
        record[check] = found
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps(dict(sorted(record.items())), indent=1) + "\n")
        fresh.replace(file)
        lock.unlink()
