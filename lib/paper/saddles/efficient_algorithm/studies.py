"""Studies beside the comparison, as one record: sensitivity, speed ratios, recovery, stages.

results/baselines_studies.json; `python -m paper.saddles.efficient_algorithm.studies` computes
the parts that are missing (a few minutes on one core).
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from learning_dynamics.files import write_atomically
from paper.records import RESULTS
from paper.saddles.efficient_algorithm.completion import Recovery, recover
from paper.saddles.efficient_algorithm.measurements import measure_visits, sensitivity
from paper.saddles.efficient_algorithm.speed import measure_speed

__all__ = ["STUDIES", "read_recovery", "read_studies", "run_studies"]

#: The record of the studies.
STUDIES = RESULTS / "baselines_studies.json"

PARTS: dict[str, Callable[[], Any]] = {
    "sensitivity": sensitivity,
    "recovery": lambda: {k: v.tolist() for k, v in asdict(recover(24)).items()},
    "speed": lambda: asdict(measure_speed()),
    "visits": lambda: asdict(measure_visits()),
}


def read_studies() -> dict[str, Any]:
    """All parts computed so far; empty if there is no record."""
    return json.loads(STUDIES.read_text()) if STUDIES.exists() else {}


def read_recovery() -> Recovery:
    """The recovery study of the record. Raises ValueError if it is missing."""
    studies = read_studies()
    if "recovery" not in studies:
        raise ValueError(f"{STUDIES.name}: part 'recovery' is missing, run the studies first")
    arrays = {k: torch.tensor(v, dtype=torch.float64) for k, v in studies["recovery"].items()}
    return Recovery(**arrays)


def run_studies() -> None:
    """Compute what is missing, one part at a time, and write it."""
    studies = read_studies()
    for name, part in PARTS.items():
        if name not in studies:
            studies[name] = part()
            write_atomically(STUDIES, (json.dumps(studies, indent=1) + "\n").encode())


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_studies()
