"""results/audit.json: what the slow checks of `make audit` found when they were last run."""

import json
from pathlib import Path

from learning_dynamics.files import hold, write_atomically

RECORD = Path(__file__).resolve().parent.parent / "results" / "audit.json"


def note(check, found, file=RECORD):
    """Put `found`, a dict of counts, under the name of a check; the other checks stay.

    Checks run side by side: each takes the lock beside the file, and the file is replaced whole.
    """
    file = Path(file)
    with hold(file):
        record = json.loads(file.read_text()) if file.exists() else {}
        record[check] = found
        write_atomically(file, (json.dumps(dict(sorted(record.items())), indent=1) + "\n").encode())
