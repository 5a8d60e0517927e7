"""Two cold runs of a chapter print the same text and make the same figure files, byte for byte.

The whole book runs twice in `make audit`; here, that a difference is seen.
"""

import copy

import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from audit_record import note
from notebooks import IMAGES, code, comparable, execute_all, is_exempt, notebook_chapters

JOBS = 2
CHAPTER = """---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3, language: python, name: python3}
---

```{code-cell} ipython3
import matplotlib.pyplot as plt
from paper.figures.style import use_book_style

use_book_style()
print("a number: 0.25")
```

```{code-cell} ipython3
plt.plot([0, 1], [1, 0], "o-")
plt.legend(["a line"]);
```

```{code-cell} ipython3
plt.rcParams["svg.hashsalt"] = None
plt.plot([0, 1], [1, 0], "o-");
```

```{code-cell} ipython3
import time

print(time.time_ns())
```

```{code-cell} ipython3
print({"a", "b", "c", "d", "e", "f"})
```

```{code-cell} ipython3
# NBVAL_IGNORE_OUTPUT
print(time.time_ns())
```
"""


def compare(first, second):
    """(counts, differences) of two executed notebooks of one chapter; differences say the cell."""
    counts, differences = {"cells": 0, "figure files": 0}, []
    for number, cells in enumerate(zip(code(first), code(second), strict=True), 1):
        if is_exempt(cells[0]):
            continue
        printed = [comparable(cell.outputs) for cell in cells]
        figures = [
            [
                (kind, o["data"][kind])
                for o in cell.outputs
                for kind in IMAGES
                if kind in o.get("data", {})
            ]
            for cell in cells
        ]
        counts["cells"] += 1
        counts["figure files"] += len(figures[0])
        told = ["printed text"] if printed[0] != printed[1] else []
        told += ["number of figure files"] if len(figures[0]) != len(figures[1]) else []
        told += [old[0] for old, new in zip(*figures, strict=False) if old != new]
        differences += [f"cell {number}: {what}" for what in told]
    return counts, differences


def run_twice(chapters, jobs, monkeypatch):
    """Execute the chapters twice; (counts, differences) over all, each difference with its chapter."""
    runs = []
    for seed in ("0", "1"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)  # kernels inherit it
        runs.append(dict(execute_all(chapters, jobs)))
    total, differences = {"chapters": len(chapters)}, []
    for chapter in chapters:
        counts, found = compare(runs[0][chapter], runs[1][chapter])
        total = {**total, **{name: total.get(name, 0) + n for name, n in counts.items()}}
        differences += [f"{chapter.stem}, {line}" for line in found]
    return total, differences


def executed():
    """A notebook with one printed number, one figure in two formats and one glued value."""
    figure = {"image/svg+xml": "<svg/>", "application/pdf": "JVBERg==", "text/plain": "<Figure>"}
    glued = new_output("display_data", {"application/papermill.record/text/plain": "'0.25'"})
    outputs = [
        new_output("stream", name="stdout", text="0.25\n"),
        new_output("display_data", figure),
    ]
    return new_notebook(
        cells=[new_code_cell("x", outputs=outputs), new_code_cell("y", outputs=[glued])]
    )


def test_equal_runs_are_counted():
    assert compare(executed(), executed()) == ({"cells": 2, "figure files": 2}, [])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda cells: cells[0].outputs[0].update(text="0.25000001\n"), "cell 1: printed text"),
        (
            lambda cells: cells[0].outputs[1].data.update({"image/svg+xml": "<svg />"}),
            "cell 1: image/svg+xml",
        ),
        (
            lambda cells: cells[0].outputs[1].data.update({"application/pdf": "JVBERh=="}),
            "cell 1: application/pdf",
        ),
        (lambda cells: cells[0].outputs.pop(1), "cell 1: number of figure files"),
        (lambda cells: cells[1].outputs.clear(), "cell 2: printed text"),
    ],
)
def test_the_smallest_difference_is_told(change, told):
    other = copy.deepcopy(executed())
    change(other.cells)
    assert compare(executed(), other)[1] == [told]


@pytest.mark.audit
def test_salt_clock_and_order_of_sets_are_found_out(tmp_path, monkeypatch):
    chapter = tmp_path / "chapter.md"
    chapter.write_text(CHAPTER)
    counts, differences = run_twice([chapter], 1, monkeypatch)
    assert counts == {"chapters": 1, "cells": 5, "figure files": 4}
    assert differences == [
        "chapter, cell 3: image/svg+xml",
        "chapter, cell 4: printed text",
        "chapter, cell 5: printed text",
    ]


@pytest.mark.audit
def test_two_cold_runs_of_the_book_are_identical(monkeypatch):
    counts, differences = run_twice(notebook_chapters(), JOBS, monkeypatch)
    note("two cold runs", {**counts, "differences": len(differences)})
    assert not differences, "\n".join(differences)
