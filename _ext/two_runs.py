"""Two cold runs of the chapters: what they print and the figure files they make must be identical.

Each run executes every chapter from its source in a fresh kernel, with no execution cache, and with
another seed for the order of Python's sets. Printed text is compared exactly, figure files byte for
byte; cells exempt from comparison are left out.
"""

import os

from notebooks import IMAGES, code, comparable, execute_all, is_exempt

__all__ = ["compare", "run_twice"]


def _figures(outputs):
    """(kind, content) of each figure file among the outputs of a cell."""
    return [
        (kind, output["data"][kind])
        for output in outputs
        for kind in IMAGES
        if kind in output.get("data", {})
    ]


def compare(first, second):
    """(counts, differences) of two executed notebooks of one chapter; differences say the cell."""
    counts, differences = {"cells": 0, "figure files": 0}, []
    for number, (one, two) in enumerate(zip(code(first), code(second), strict=True), 1):
        if is_exempt(one):
            continue
        counts["cells"] += 1
        if comparable(one.outputs) != comparable(two.outputs):
            differences.append(f"cell {number}: printed text")
        figures = _figures(one.outputs), _figures(two.outputs)
        counts["figure files"] += len(figures[0])
        if len(figures[0]) != len(figures[1]):
            differences.append(f"cell {number}: number of figure files")
        differences += [
            f"cell {number}: {old[0]}" for old, new in zip(*figures, strict=False) if old != new
        ]
    return counts, differences


def run_twice(chapters, jobs):
    """Execute the chapters twice; (counts, differences) over all, each difference with its chapter."""
    runs, before = [], os.environ.get("PYTHONHASHSEED")
    try:
        for seed in ("0", "1"):
            os.environ["PYTHONHASHSEED"] = seed  # kernels inherit it
            runs.append(dict(execute_all(chapters, jobs)))
    finally:
        os.environ.pop("PYTHONHASHSEED")
        if before is not None:
            os.environ["PYTHONHASHSEED"] = before
    total, differences = {"chapters": len(chapters)}, []
    for chapter in chapters:
        counts, found = compare(runs[0][chapter], runs[1][chapter])
        total = {**total, **{name: total.get(name, 0) + n for name, n in counts.items()}}
        differences += [f"{chapter.stem}, {line}" for line in found]
    return total, differences
