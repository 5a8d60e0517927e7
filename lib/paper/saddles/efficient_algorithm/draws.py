"""What holds on how many draws: the comparison over seeds in numbers that a table can show."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from paper.saddles.efficient_algorithm.comparison import read_comparison
from paper.saddles.efficient_algorithm.methods import METHODS
from paper.saddles.efficient_algorithm.seeds import read_seeds

__all__ = [
    "STATEMENTS",
    "Spread",
    "Statement",
    "count_of",
    "counts",
    "faithful",
    "read_draws",
    "spread",
    "spread_table",
    "verdict_table",
]

#: problem -> method -> seed (as text) -> measures.
Draws = Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]


def read_draws() -> dict[str, Any]:
    """All draws of every method, the comparison's own (seed 0) first; one where nothing is random.

    Only seeds that are complete for all methods of a problem count.
    """
    first, more = read_comparison(), read_seeds()
    draws: dict[str, Any] = {}
    for problem, methods in first.items():
        drawn = more.get(problem, {})
        common = set.intersection(*(set(v) for v in drawn.values())) if drawn else {"0"}
        draws[problem] = {
            name: {s: drawn.get(name, {"0": entry})[s] for s in sorted(common)}
            if name in drawn
            else {"0": entry}
            for name, entry in methods.items()
        }
    return draws


def faithful(entry: Mapping[str, Any], within: float = 1e-2) -> bool:
    """The end is reached and every saddle was approached to `within` on the way."""
    return entry.get("evaluations") is not None and max(entry["saddle_gap"]) <= within


@dataclass(frozen=True)
class Spread:
    """median, least, most: over draws, missing values counted as infinite. draws: their number.
    arrived, faithful : draws on which the end, and every saddle, was reached."""

    median: float
    least: float
    most: float
    draws: int
    arrived: int
    faithful: int


def _value(entry: Mapping[str, Any], column: str) -> float:
    if column == "visited":
        gaps = entry.get("saddle_gap", [math.inf])
        return sum(g <= 1e-2 for g in gaps) / len(gaps)
    value = entry.get(column)
    if isinstance(value, list):
        value = max(value)
    return math.inf if value is None or value != value else float(value)


def spread(entries: Mapping[str, Mapping[str, Any]], column: str = "evaluations") -> Spread:
    """Of one measure over draws; lists by their worst, "visited" for the share of saddles."""
    values = [_value(e, column) for e in entries.values()]
    return Spread(
        statistics.median(values),
        min(values),
        max(values),
        len(values),
        sum(e.get("evaluations") is not None for e in entries.values()),
        sum(faithful(e) for e in entries.values()),
    )


def _ev(name: str) -> Callable[[Mapping[str, Any]], float]:
    return lambda e: _value(e[name], "evaluations")


def _visits(name: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda e: faithful(e[name])


def _misses(name: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda e: _value(e[name], "visited") < 1


def _cheaper(name: str, than: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda e: _ev(name)(e) < _ev(than)(e)


def _cheapest(e: Mapping[str, Any]) -> bool:
    others = [_ev(n)(e) for n in e if not n.startswith("ours") and faithful(e[n])]
    return faithful(e["ours"]) and all(_ev("ours")(e) <= o for o in others)


@dataclass(frozen=True)
class Statement:
    """One verdict on one method: words, problems, and what decides on one draw."""

    method: str
    words: str
    problems: tuple[str, ...]
    holds: Callable[[Mapping[str, Any]], bool]


LINEAR = ("P1", "P2", "P3")
GREEDY = (*LINEAR, "P4", "P9")

STATEMENTS: tuple[Statement, ...] = (
    Statement(
        "gradient descent, 1e-1",
        "at the end before ours",
        (*LINEAR, "P9"),
        _cheaper("gd-1e-1", "ours"),
    ),
    Statement(
        "gradient descent, 1e-14", "misses a saddle by more than 1 %", LINEAR, _misses("gd-1e-14")
    ),
    Statement(
        "heavy ball",
        "cheaper than gradient descent, 1e-8",
        (*LINEAR, "P5", "P9"),
        _cheaper("heavy-ball", "gd-1e-8"),
    ),
    Statement("heavy ball", "misses a saddle", (*LINEAR, "P9"), _misses("heavy-ball")),
    Statement(
        "normalised descent",
        "cheaper than gradient descent, 1e-8",
        (*LINEAR, "P5", "P9"),
        _cheaper("normalised", "gd-1e-8"),
    ),
    Statement("normalised descent", "misses a saddle", (*LINEAR, "P9"), _misses("normalised")),
    Statement(
        "Muon-style",
        "next mode above a tenth of the last",
        (*LINEAR, "P9"),
        lambda e: _value(e["muon"], "excess_rank") > 0.1,
    ),
    Statement("GLRL", "visits every saddle", GREEDY, _visits("glrl")),
    Statement("AGF", "visits every saddle", (*GREEDY, "P5"), _visits("agf")),
    Statement("Neuron Pursuit", "visits every saddle", (*GREEDY, "P5"), _visits("neuron-pursuit")),
    Statement("thesis's algorithm", "visits every saddle", (*GREEDY, "P5"), _visits("thesis")),
    Statement("A(eps, T, eta)", "misses a saddle at its cheapest T", LINEAR, _misses("jacot")),
    Statement("GradMax", "visits every saddle", GREEDY, _visits("gradmax")),
    Statement(
        "TINY",
        "every saddle, no method cheaper",
        LINEAR,
        lambda e: faithful(e["tiny"]) and all(_ev("tiny")(e) <= _ev(n)(e) for n in e),
    ),
    Statement("rank-one pursuit", "visits every saddle", GREEDY, _visits("rank-one")),
    Statement("ours", "visits every saddle", (*GREEDY, "P5", "P6", "P7"), _visits("ours")),
    Statement(
        "ours", "the cheapest that visits every saddle", (*GREEDY, "P5", "P6", "P7"), _cheapest
    ),
)


def counts(statement: Statement, draws: Draws) -> dict[str, tuple[int, int]]:
    """problem -> (draws on which it holds, draws)."""
    found = {}
    for problem in statement.problems:
        methods = draws[problem]
        seeds = max(methods.values(), key=len)
        each = [{n: m.get(s, m["0"]) for n, m in methods.items()} for s in seeds]
        found[problem] = (sum(statement.holds(e) for e in each), len(each))
    return found


def count_of(draws: Draws, problem: str, method: str, words: str) -> tuple[int, int]:
    """(draws on which the statement holds, draws) for one problem."""
    found = [s for s in STATEMENTS if (s.method, s.words) == (method, words)]
    if not found:
        raise ValueError(f"words = {words!r}: no such statement on {method!r}")
    return counts(found[0], draws)[problem]


def verdict_table(draws: Draws) -> str:
    """The statements as a Markdown table: draws on which each holds."""
    rows = [
        (s.method, s.words, ", ".join(f"{p} {k}/{n}" for p, (k, n) in counts(s, draws).items()))
        for s in STATEMENTS
    ]
    return pd.DataFrame(rows, columns=["method", "statement", "holds on draws"]).to_markdown(
        index=False, disable_numparse=True
    )


def _number(value: float, column: str) -> str:
    if math.isinf(value):
        return "×"
    if column in ("evaluations", "svds"):
        return f"{value:.0f}"
    return f"{value:.2f}" if column == "visited" else f"{value:.1g}"


def spread_table(entries: Mapping[str, Mapping[str, Any]], columns: Sequence[str]) -> str:
    """median [least, most] over the draws of one problem, one method a row; × where missed."""
    titles = {
        "evaluations": "evaluations",
        "svds": "SVDs",
        "visited": "saddles visited",
        "excess_rank": "next mode",
        "distance": "distance to path",
    }
    rows = []
    for name in (name for name in METHODS if name in entries):
        row = {"method": METHODS[name].title}
        for column in columns:
            s = spread(entries[name], column)
            low, middle, high = (_number(v, column) for v in (s.least, s.median, s.most))
            row[titles[column]] = middle if low == high else f"{middle} [{low}, {high}]"
        order = sum(bool(e.get("in_order")) for e in entries[name].values())
        rows.append(row | {"in order": f"{order}/{len(entries[name])}"})
    return pd.DataFrame(rows).to_markdown(
        index=False, disable_numparse=True, colalign=["left"] + ["right"] * (len(columns) + 1)
    )
