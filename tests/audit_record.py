"""results/audit.json: what the slow checks of `make audit` found when they were last run."""

import json
from pathlib import Path

from learning_dynamics.files import hold, write_atomically

RECORD = Path(__file__).resolve().parent.parent / "results" / "audit.json"


def note(check, found):
    """Put `found`, a dict of counts, under the name of a check; the other checks stay.

    Checks run side by side: each takes the lock beside the file, and the file is replaced whole.
    """
    with hold(RECORD):
        record = json.loads(RECORD.read_text()) | {check: found}
        text = json.dumps(dict(sorted(record.items())), indent=1) + "\n"
        write_atomically(RECORD, text.encode())
