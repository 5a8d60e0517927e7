"""Every method on every problem at its own best settings, on several draws: one record.

P1 to P4', P9: problem and start are drawn anew. P5 to P7: published data, only the start is drawn.
P8: published data and a published start. Where a method draws nothing there is one run. Draw 0
searches the whole grid of settings, the others walk from its best ones.

results/baselines.json is written after each measurement: an interrupted run goes on where it
stopped. `python -m paper.saddles.efficient_algorithm.comparison` measures what is missing (about
two hours on one core).
"""

import itertools
import json
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from learning_dynamics.files import write_atomically
from learning_dynamics.saddles.skipping.objective import Path
from paper.records import RESULTS
from paper.saddles.efficient_algorithm.methods import METHODS, NO_SEED, arrival, best_settings
from paper.saddles.efficient_algorithm.problems import CASES, Case, case

__all__ = [
    "RECORD",
    "SEEDS",
    "STATEMENTS",
    "Spread",
    "counts",
    "faithful",
    "measured",
    "measures",
    "read_draws",
    "spread",
    "verdict_table",
]

RECORD = RESULTS / "baselines.json"
SEEDS = range(6)
PUBLISHED = ("P5", "P6", "P7")  # of these the start is drawn
FIXED = "P8"
MOST_STEPS = 3000

#: Measures of one method on one draw; seed (as text) -> measures; problem -> method -> draws.
Entry = Mapping[str, Any]
Entries = Mapping[str, Entry]
Draws = Mapping[str, Mapping[str, Entries]]


def measures(path: Path, c: Case) -> dict[str, Any]:
    """What the tables show of one run, as plain numbers.

    evaluations : until the last saddle is reached (see `arrival`), None if it is missed.
    saddle_gap  : per saddle 1..K, smallest |f - f_k|/|f_k| over the path.
    excess_rank : largest sigma_{k+1}(f)/sigma_k(f) at the nearest approach to saddle k, before the
                  last. 0: the path has rank k there; near 1: the next mode is as large. None for
                  one output.
    """
    gaps, excess = [], None if path.outputs.shape[1] == 1 or len(c.outputs) < 3 else 0.0
    for k, saddle in enumerate(c.outputs[1:], start=1):
        distance = (path.outputs - saddle).flatten(1).norm(dim=1)
        gaps.append(float(distance.min() / saddle.norm()))
        s = torch.linalg.svdvals(path.outputs[int(distance.argmin())])
        if excess is not None and k < len(c.outputs) - 1 and k < len(s) and float(s[k - 1]) > 0:
            excess = max(excess, float(s[k] / s[k - 1]))
    return {"evaluations": arrival(path, c), "saddle_gap": gaps, "excess_rank": excess}


def measured(
    problem: str, name: str, seed: int = 0, start: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """`measures` of one method on draw `seed`, at the best settings for it (`best_settings`)."""
    c = case(problem, seed)
    settings, path = best_settings(name, c, seed=seed, max_steps=MOST_STEPS, start=start)
    if path is None:
        return {"status": "unstable"}
    return {"settings": settings, **measures(path, c)}


def read_draws() -> Draws:
    """The record."""
    return json.loads(RECORD.read_text())["problems"]


def main() -> None:
    """Measures what the record lacks."""
    draws: dict[str, Any] = dict(read_draws()) if RECORD.exists() else {}
    for seed, problem, (name, method) in itertools.product(SEEDS, CASES, METHODS.items()):
        nothing_drawn = problem == FIXED or (problem in PUBLISHED and name in NO_SEED)
        if case(problem).kind not in method.on or (seed and nothing_drawn):
            continue
        entries = draws.setdefault(problem, {}).setdefault(name, {})
        if str(seed) not in entries:
            start = entries["0"].get("settings") if seed else None
            entries[str(seed)] = measured(problem, name, seed, start)
            body = {"torch": torch.__version__.split("+")[0], "problems": draws}
            write_atomically(RECORD, f"{json.dumps(body)}\n".encode())


def faithful(entry: Entry) -> bool:
    """The end is reached and every saddle was approached to 1 % on the way."""
    return entry.get("evaluations") is not None and max(entry["saddle_gap"]) <= 1e-2


def cost(entry: Entry) -> float:
    """Evaluations until the end, infinite if it is missed."""
    spent = entry.get("evaluations")
    return math.inf if spent is None else spent


@dataclass(frozen=True)
class Spread:
    """median, least, most: evaluations over draws, infinite where the end is missed. draws: their
    number. arrived, faithful : draws on which the end, and every saddle, was reached."""

    median: float
    least: float
    most: float
    draws: int
    arrived: int
    faithful: int


def spread(entries: Entries) -> Spread:
    """Of the draws of one method on one problem."""
    values = [cost(e) for e in entries.values()]
    return Spread(
        statistics.median(values),
        min(values),
        max(values),
        len(values),
        sum(math.isfinite(v) for v in values),
        sum(faithful(e) for e in entries.values()),
    )


#: Decides a statement on one draw, from the measures of all methods.
Rule = Callable[[Mapping[str, Entry]], bool]


def _visits(name: str) -> Rule:
    return lambda e: faithful(e[name])


def _misses(name: str) -> Rule:
    return lambda e: max(e[name]["saddle_gap"]) > 1e-2


def _cheaper(name: str, than: str) -> Rule:
    return lambda e: cost(e[name]) < cost(e[than])


def _cheapest(draw: Mapping[str, Entry]) -> bool:
    others = [e for n, e in draw.items() if not n.startswith("ours") and faithful(e)]
    return faithful(draw["ours"]) and all(cost(draw["ours"]) <= cost(e) for e in others)


LINEAR, GREEDY = ("P1", "P2", "P3"), ("P1", "P2", "P3", "P4", "P9")
VISITS, CHEAPER = "visits every saddle", "cheaper than gradient descent, 1e-8"

#: Verdicts on methods: method, words, problems, what decides on one draw.
STATEMENTS: tuple[tuple[str, str, tuple[str, ...], Rule], ...] = (
    (
        "gradient descent, 1e-1",
        "at the end before ours",
        (*LINEAR, "P9"),
        _cheaper("gd-1e-1", "ours"),
    ),
    ("gradient descent, 1e-14", "misses a saddle by more than 1 %", LINEAR, _misses("gd-1e-14")),
    ("heavy ball", CHEAPER, (*LINEAR, "P5", "P9"), _cheaper("heavy-ball", "gd-1e-8")),
    ("heavy ball", "misses a saddle", (*LINEAR, "P9"), _misses("heavy-ball")),
    ("normalised descent", CHEAPER, (*LINEAR, "P5", "P9"), _cheaper("normalised", "gd-1e-8")),
    ("normalised descent", "misses a saddle", (*LINEAR, "P9"), _misses("normalised")),
    (
        "Muon-style",
        "next mode above a tenth of the last",
        (*LINEAR, "P9"),
        lambda e: e["muon"]["excess_rank"] > 0.1,
    ),
    ("GLRL", VISITS, GREEDY, _visits("glrl")),
    ("AGF", VISITS, (*GREEDY, "P5"), _visits("agf")),
    ("Neuron Pursuit", VISITS, (*GREEDY, "P5"), _visits("neuron-pursuit")),
    ("thesis's algorithm", VISITS, (*GREEDY, "P5"), _visits("thesis")),
    ("A(eps, T, eta)", "misses a saddle at its cheapest T", LINEAR, _misses("jacot")),
    ("GradMax", VISITS, GREEDY, _visits("gradmax")),
    (
        "TINY",
        "every saddle, no method cheaper",
        LINEAR,
        lambda e: faithful(e["tiny"]) and all(cost(e["tiny"]) <= cost(o) for o in e.values()),
    ),
    ("rank-one pursuit", VISITS, GREEDY, _visits("rank-one")),
    ("ours", VISITS, (*GREEDY, "P5", "P6", "P7"), _visits("ours")),
    ("ours", "the cheapest that visits every saddle", (*GREEDY, "P5", "P6", "P7"), _cheapest),
)


def counts(draws: Draws, problem: str, holds: Rule) -> tuple[int, int]:
    """(draws of the problem on which a statement holds, draws)."""
    methods = draws[problem]
    seeds = max(methods.values(), key=len)
    each = [{n: m.get(s, m["0"]) for n, m in methods.items()} for s in seeds]
    return sum(holds(e) for e in each), len(each)


def verdict_table(draws: Draws) -> str:
    """The statements as a Markdown table: draws on which each holds."""
    rows = []
    for method, words, problems, rule in STATEMENTS:
        found = (f"{p} {'{}/{}'.format(*counts(draws, p, rule))}" for p in problems)
        rows.append((method, words, ", ".join(found)))
    frame = pd.DataFrame(rows, columns=["method", "statement", "holds on draws"])
    return frame.to_markdown(index=False, disable_numparse=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
