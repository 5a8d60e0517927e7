"""The full comparison: every method on every problem at its own best settings, as one record.

results/baselines.json holds one entry per problem and method, written as soon as it is measured:
an interrupted run goes on where it stopped. `python -m
paper.saddles.efficient_algorithm.comparison` runs what is missing (about half an hour on one core).
"""

import json
from collections.abc import Sequence
from typing import Any

import torch

from learning_dynamics.files import write_atomically
from learning_dynamics.saddles.skipping.objective import Path
from paper.records import RESULTS
from paper.saddles.efficient_algorithm.measures import measures
from paper.saddles.efficient_algorithm.methods import METHODS, best_settings, kind_of
from paper.saddles.efficient_algorithm.problems import CASES, case

__all__ = ["RECORD", "compare", "compare_all", "read_comparison", "rounded"]

#: The record of the full comparison.
RECORD = RESULTS / "baselines.json"

#: The method to whose path distances are measured.
REFERENCE = "gd-1e-14"
MOST_STEPS = 3000


def rounded(value: Any) -> Any:
    """Numbers to six digits, so that a record changes only when something moved."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(v) for v in value]
    return value


def compare(
    problem: str, methods: Sequence[str] = tuple(METHODS), *, reference: Path | None = None
) -> dict[str, dict[str, Any]]:
    """Measures of each method that is defined on `problem`, at its best settings.

    The path of gradient descent from 1e-14 is the one to which distances are measured.
    """
    c = case(problem)
    if reference is None:
        _, reference = best_settings(REFERENCE, c, max_steps=MOST_STEPS)
    table: dict[str, dict[str, Any]] = {}
    for name in methods:
        if kind_of(c) not in METHODS[name].on:
            continue
        settings, path = best_settings(name, c, max_steps=MOST_STEPS)
        if path is None:
            table[name] = {"status": "unstable"}
        else:
            table[name] = {"settings": settings, **measures(path, c, reference)}
    return rounded(table)


def read_comparison() -> dict[str, dict[str, dict[str, Any]]]:
    """problem -> method -> measures; empty if there is no record yet."""
    return json.loads(RECORD.read_text())["problems"] if RECORD.exists() else {}


def compare_all() -> None:
    """Fill in what is missing in the record, one problem and method at a time."""
    table = read_comparison()
    for problem in CASES:
        have = table.setdefault(problem, {})
        kind, reference = kind_of(case(problem)), None
        for name in METHODS:
            if name in have or kind not in METHODS[name].on:
                continue
            if reference is None:
                _, reference = best_settings(REFERENCE, case(problem), max_steps=MOST_STEPS)
            have.update(compare(problem, [name], reference=reference))
            body = {"torch": torch.__version__.split("+")[0], "seed": 0, "problems": table}
            write_atomically(RECORD, (json.dumps(body, indent=1) + "\n").encode())


if __name__ == "__main__":
    torch.set_num_threads(1)
    compare_all()
