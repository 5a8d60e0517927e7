"""The comparison over seeds: every method on fresh draws of every problem that has any.

P1 to P4', P9: problem and start are drawn anew. P5 to P7: published data, only the start is drawn,
and only methods that have one are run. P8: published data and a published start, nothing is random.
Each draw searches its own best settings on the grid of the comparison, by descent from those of
seed 0: neighbours are tried until none is better. results/baselines_seeds.json is written after
each method; `python -m paper.saddles.efficient_algorithm.seeds` runs what is missing or belongs
to another `VERSION`.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from learning_dynamics.files import write_atomically
from learning_dynamics.saddles.skipping.objective import Path
from paper.records import RESULTS
from paper.saddles.efficient_algorithm.comparison import REFERENCE, read_comparison, rounded
from paper.saddles.efficient_algorithm.measures import measures
from paper.saddles.efficient_algorithm.methods import METHODS, NO_SEED, kind_of, try_settings
from paper.saddles.efficient_algorithm.problems import CASES, Case, case

__all__ = [
    "FIXED",
    "RANDOM",
    "SEEDS",
    "SEEDS_RECORD",
    "STARTS",
    "VERSION",
    "nearby_best",
    "read_seeds",
    "run_one",
    "run_seeds",
    "wanted",
]

#: The record.
SEEDS_RECORD = RESULTS / "baselines_seeds.json"

#: To be raised when a change of the methods changes their measures: all draws are run anew.
#: A record that names no version is of the first.
VERSION = 1

#: Problems that are drawn; those of which only the start is; those without anything random.
RANDOM = ("P1", "P2", "P3", "P4", "P4'", "P9")
STARTS = ("P5", "P6", "P7")
FIXED = ("P8",)

#: Draws beside seed 0, which the comparison itself holds.
SEEDS = (1, 2, 3, 4, 5)


def wanted(problem: str) -> Iterator[str]:
    """Methods in which a seed changes something on `problem`."""
    if problem in FIXED:
        return
    kind = kind_of(case(problem))
    for name, method in METHODS.items():
        if kind in method.on and (problem in RANDOM or name not in NO_SEED):
            yield name


def _nearest(values: Sequence[float], value: float) -> int:
    """The place of the value on the grid that is nearest to `value`."""
    return min(range(len(values)), key=lambda i: abs(values[i] - value))


def _neighbours(name: str, settings: dict[str, float]) -> Iterator[dict[str, float]]:
    """Settings one place of the grid away, one at a time."""
    for key, values in METHODS[name].settings.items():
        at = _nearest(values, settings[key])
        for other in (at - 1, at + 1):
            if 0 <= other < len(values):
                yield settings | {key: values[other]}


def nearby_best(
    name: str, c: Case, start: dict[str, float], *, seed: int, max_steps: int = 3000
) -> tuple[dict[str, float], Path | None]:
    """The best settings found by walking from `start` to better neighbours; as `best_settings`.

    Where `start` itself is not stable the walk first goes to smaller steps.
    """
    tried: dict[str, tuple[tuple[float, float], Path] | None] = {}
    limit = max_steps

    def attempt(settings: dict[str, float]) -> tuple[tuple[float, float], Path] | None:
        nonlocal limit
        key = json.dumps(settings, sort_keys=True)
        if key not in tried:
            tried[key] = new = try_settings(name, c, settings, seed=seed, max_steps=limit)
            if new is not None and "max_steps" not in settings:
                limit = min(limit, int(min(new[0][0], max_steps)) + 2)
        return tried[key]

    here = {k: v[_nearest(v, start[k])] for k, v in METHODS[name].settings.items()}
    best = attempt(here)
    while best is None:  # unstable: a smaller step
        smaller = next(
            (s for s in _neighbours(name, here) if sum(s.values()) < sum(here.values())), None
        )
        if smaller is None:
            return {}, None
        here, best = smaller, attempt(smaller)
    moved = True
    while moved:
        moved = False
        for other in _neighbours(name, here):
            found = attempt(other)
            if found is not None and found[0] < best[0]:
                here, best, moved = other, found, True
                break
    return here, best[1]


def run_one(problem: str, name: str, seed: int, reference: Path | None = None) -> dict[str, Any]:
    """Measures of one method on draw `seed` of one problem, at the best settings for that draw."""
    c = case(problem, seed)
    start = read_comparison()[problem][name].get("settings", {})
    if not start:
        start = {key: values[0] for key, values in METHODS[name].settings.items()}
    settings, path = nearby_best(name, c, start, seed=seed)
    if path is None:
        return {"status": "unstable"}
    return rounded({"settings": settings, **measures(path, c, reference)})


def read_seeds() -> dict[str, Any]:
    """problem -> method -> seed (as text) -> measures, seed 0 from the comparison included."""
    if not SEEDS_RECORD.exists():
        return {}
    table = json.loads(SEEDS_RECORD.read_text())["problems"]
    first = read_comparison()
    return {
        problem: {name: {"0": first[problem][name], **seeds} for name, seeds in methods.items()}
        for problem, methods in table.items()
    }


def run_seeds() -> None:
    """Compute what the record lacks, or holds of another version, one method and draw at a time."""
    body: dict[str, Any] = {"version": VERSION, "torch": "", "seeds": list(SEEDS), "problems": {}}
    if SEEDS_RECORD.exists():
        old = json.loads(SEEDS_RECORD.read_text())
        body["problems"] = old["problems"] if old.get("version", 1) == VERSION else {}
    body["torch"] = torch.__version__.split("+")[0]
    for seed in SEEDS:
        for problem in CASES:
            reference = None
            for name in wanted(problem):
                entries = body["problems"].setdefault(problem, {}).setdefault(name, {})
                if str(seed) in entries:
                    continue
                if reference is None:
                    start = read_comparison()[problem][REFERENCE]["settings"]
                    _, reference = nearby_best(REFERENCE, case(problem, seed), start, seed=seed)
                entries[str(seed)] = run_one(problem, name, seed, reference)
                text = json.dumps(body, indent=None, separators=(",", ":")) + "\n"
                write_atomically(SEEDS_RECORD, text.encode())


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_seeds()
