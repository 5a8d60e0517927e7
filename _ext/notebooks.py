"""Chapters as notebooks: assembled for nbval, executed for readers, their reference renewed.

    notebooks.py assemble FOLDER     chapters + committed reference outputs -> FOLDER/**/*.ipynb
    notebooks.py run FOLDER          executed notebooks, for reading and for Jupyter; outputs that
                                     `make book` left for this state of a chapter are taken over
    notebooks.py reference [NAME..]  execute, write tests/reference/*.json, print what changed
                                     (--built: reuse outputs of `make book` where still valid)

A reference holds the outputs of each code cell without images: what a rerun is compared with.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ROOT / "chapters"
REFERENCE = ROOT / "tests" / "reference"
IMAGES = ("image/png", "image/jpeg", "image/svg+xml", "application/pdf")
#: Matplotlib's own files: a kernel must not depend on a home that can be written to.
os.environ.setdefault("MPLCONFIGDIR", str(ROOT / "_build" / ".matplotlib"))
EXEMPT_TAGS = {"nbval-ignore-output", "nbval-skip", "raises-exception"}
EXEMPT_MARKS = ("NBVAL_IGNORE_OUTPUT", "NBVAL_SKIP", "NBVAL_RAISES_EXCEPTION")


def chapter_files(root=ROOT):
    """The chapters in the order of `_toc.yml`."""

    def walk(entry):
        if "file" in entry:
            yield root / f"{entry['file']}.md"
        for key in ("parts", "chapters", "sections"):
            for child in entry.get(key, ()):
                yield from walk(child)

    toc = yaml.safe_load((root / "_toc.yml").read_text())
    return [root / f"{toc['root']}.md", *walk(toc)]


def notebook_chapters():
    """The chapters that contain code."""
    return [path for path in chapter_files() if "{code-cell}" in path.read_text()]


def reference_file(chapter):
    """Where the reference outputs of a chapter are kept."""
    name = chapter.relative_to(CHAPTERS).with_suffix("").as_posix().replace("/", "--")
    return REFERENCE / f"{name}.json"


def read(chapter):
    """The chapter as a notebook without outputs."""
    import jupytext

    return jupytext.read(chapter)


def code(notebook):
    """The code cells of a notebook."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def is_clean(notebook):
    """True if no cell of an executed notebook wrote to stderr or failed."""
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    return not any(o.output_type == "error" or o.get("name") == "stderr" for o in outputs)


def is_exempt(cell):
    """True if the outputs of a cell are not compared."""
    marked = any(mark in cell.source for mark in EXEMPT_MARKS)
    return marked or bool(EXEMPT_TAGS & set(cell.metadata.get("tags", ())))


def list_fonts():
    """Let Matplotlib list the fonts, if it has not: in a kernel, on a slow machine, it would complain."""
    if not list(Path(os.environ["MPLCONFIGDIR"]).glob("fontlist-*.json")):
        subprocess.run(
            [sys.executable, "-c", "import matplotlib.font_manager"], capture_output=True
        )


def comparable(outputs):
    """Outputs without images, metadata and counts; a text that arrived in pieces is one."""
    kept = []
    for output in outputs:
        if output["output_type"] == "stream":
            if kept and kept[-1].get("name") == output["name"]:
                kept[-1]["text"] += output["text"]
            else:
                kept.append(
                    {"output_type": "stream", "name": output["name"], "text": output["text"]}
                )
        elif "data" in output:
            data = {k: v for k, v in output["data"].items() if k not in IMAGES}
            if set(output["data"]) & set(IMAGES):
                data.pop("text/plain", None)  # "<Figure size ...>"
            if data:
                kept.append({"output_type": "display_data", "data": data, "metadata": {}})
    return kept


def execute(chapter):
    """The chapter, executed in its own folder."""
    from nbclient import NotebookClient

    notebook = read(chapter)
    NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(chapter.parent)}}
    ).execute()
    return notebook


def built(chapter):
    """The executed notebook that the last book build left for this state of the chapter, or None."""
    from dependencies import chapter_digest

    name = chapter.relative_to(ROOT).with_suffix("").as_posix().replace("/", "-")
    folder = ROOT / "_build" / ".executed" / name / chapter_digest(ROOT, chapter) / "executed"
    notebook = read(chapter)
    for path in folder.glob("*/base.ipynb"):
        try:
            whole = nbformat.read(path, as_version=4)
        except ValueError:  # a build was killed while it wrote
            continue
        done = code(whole)
        if is_clean(whole) and [cell.source for cell in done] == [
            cell.source for cell in code(notebook)
        ]:
            for cell, old in zip(code(notebook), done, strict=True):
                cell.outputs, cell.execution_count = old.outputs, old.execution_count
            return notebook
    return None


def assemble(folder, chapters=None):
    """Write each chapter with its reference outputs, for nbval to rerun and compare."""
    folder = Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    for chapter in notebook_chapters() if chapters is None else chapters:
        notebook, file = read(chapter), reference_file(chapter)
        cells = code(notebook)
        outputs = json.loads(file.read_text())["cells"] if file.exists() else []
        if len(outputs) != len(cells):
            # A note in place of the outputs: nbval shows it beside what the cell printed.
            note = f"no reference for this cell: run `make reference CHAPTER={chapter.stem}`\n"
            missing = [{"output_type": "stream", "name": "stdout", "text": note}]
            outputs = outputs[: len(cells)] + [missing] * (len(cells) - len(outputs))
        for number, (cell, kept) in enumerate(zip(cells, outputs, strict=False), 1):
            cell.outputs = [nbformat.from_dict(output) for output in kept]
            cell.execution_count = number  # nbval skips the comparison of cells that never ran
        target = folder / chapter.relative_to(CHAPTERS).with_suffix(".ipynb")
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target)


def _executed(chapter, use_build=False):
    try:
        return chapter, (use_build and built(chapter)) or execute(chapter), None
    except Exception as error:  # reported by the caller, with the chapter's name
        return chapter, None, f"{type(error).__name__}: {error}"


def execute_all(chapters, jobs, use_build=False):
    """(chapter, executed notebook) of each, in order; exits with 1 at the end if one failed."""
    failed = []
    with ProcessPoolExecutor(jobs) as pool:
        work = partial(_executed, use_build=use_build)
        for chapter, notebook, error in pool.map(work, chapters):
            if error:
                failed.append(chapter)
                print(f"{chapter.relative_to(ROOT)}: {error}", file=sys.stderr)
            else:
                yield chapter, notebook
    if failed:
        raise SystemExit(1)


def run(folder, jobs):
    """Write executed notebooks below `folder`."""
    for chapter, notebook in execute_all(notebook_chapters(), jobs, use_build=True):
        target = Path(folder) / chapter.relative_to(CHAPTERS).with_suffix(".ipynb")
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target)
        print(target)


def differences(old, new):
    """Lines that say how the comparable outputs of two runs differ."""
    import difflib

    def lines(cells):
        return [
            f"[{number}] {line}"
            for number, outputs in enumerate(cells)
            for output in outputs
            for text in (
                [output["text"]] if "text" in output else map(str, output["data"].values())
            )
            for line in text.splitlines()
        ]

    return [
        line
        for line in difflib.unified_diff(lines(old), lines(new), "before", "now", "", "", 0, "")
        if not line.startswith(("---", "+++", "@@"))
    ]


def renew(names, jobs, use_build=False):
    """Execute chapters (or, with `use_build`, take what the book build executed), write their references and print what changed."""
    from learning_dynamics.files import write_atomically
    from numeric_comparison import same_outputs

    chapters = [c for c in notebook_chapters() if not names or c.stem in names]
    if not chapters:
        raise SystemExit(f"{', '.join(names)}: no chapter with code has this name")
    REFERENCE.mkdir(exist_ok=True)
    for chapter, notebook in execute_all(chapters, jobs, use_build):
        new = [comparable(cell.outputs) for cell in code(notebook)]
        file = reference_file(chapter)
        old = json.loads(file.read_text())["cells"] if file.exists() else []
        if len(old) == len(new) and all(map(same_outputs, old, new)):
            print(f"{chapter.relative_to(ROOT)}: unchanged")
            continue
        text = json.dumps({"cells": new}, indent=1, ensure_ascii=False) + "\n"
        write_atomically(file, text.encode())
        print(f"{chapter.relative_to(ROOT)}: changed", *differences(old, new), sep="\n  ")
    if not names:
        expected = {reference_file(c) for c in notebook_chapters()}
        for file in set(REFERENCE.glob("*.json")) - expected:
            print(f"{file.relative_to(ROOT)}: removed, its chapter is gone")
            file.unlink()


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("assemble", "run", "reference"))
    parser.add_argument("words", nargs="*", help="a folder, or names of chapters")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--built", action="store_true", help="take executed chapters from _build")
    options = parser.parse_args()
    list_fonts()
    if options.action == "assemble":
        assemble(options.words[0])
    elif options.action == "run":
        run(options.words[0], options.jobs)
    else:
        renew(options.words, options.jobs, options.built)


if __name__ == "__main__":
    main()
