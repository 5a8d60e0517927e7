"""Two cold runs of a chapter print the same text and make the same figure files, byte for byte.

The whole book runs twice in `make audit`; here, that a difference is seen.
"""

import pytest

from audit_record import note
from notebooks import IMAGES, code, comparable, execute_all, notebook_chapters
from tables import text

JOBS = 2
CHAPTER = text("unsteady.md")


def images(cell, kind):
    return [o["data"][kind] for o in cell.outputs if kind in o.get("data", {})]


def run_twice(chapters, jobs, monkeypatch):
    """Execute the chapters twice; (counts, differences): each with its chapter and cell."""
    runs, differences = [], []
    counts = {"chapters": len(chapters), "cells": 0, "figure files": 0}
    for seed in ("0", "1"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)  # kernels inherit it
        runs.append(dict(execute_all(chapters, jobs)))
    for chapter in chapters:
        cells = zip(*(code(run[chapter]) for run in runs), strict=True)
        for number, (old, new) in enumerate(cells, 1):
            pairs = [("printed text", comparable(old.outputs), comparable(new.outputs))]
            pairs += [(kind, images(old, kind), images(new, kind)) for kind in IMAGES]
            counts["cells"] += 1
            counts["figure files"] += sum(len(found) for _, found, _ in pairs[1:])
            where = f"{chapter.stem}, cell {number}"
            differences += [f"{where}: {what}" for what, one, two in pairs if one != two]
    return counts, differences


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
