"""Chapters as notebooks: assembled for nbval, executed for readers, their reference renewed.

    notebooks.py assemble FOLDER     chapters + committed reference outputs -> FOLDER/**/*.ipynb
    notebooks.py run FOLDER          executed notebooks, for reading and for Jupyter
    notebooks.py reference [NAME..]  execute, write tests/reference/*.json, print what changed
                                     --built: take the outputs of the last `make book`
    notebooks.py tidy                write the chapters as Jupyter would save them

A reference holds the outputs of each code cell without images: what a rerun is compared with.
"""

import argparse
import asyncio
import copy
import difflib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import yaml
from jupyter_client.manager import KernelManager

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS, REFERENCE = ROOT / "chapters", ROOT / "tests" / "reference"
IMAGES = ("image/png", "image/jpeg", "image/svg+xml", "application/pdf")
#: Matplotlib's own files: a kernel must not depend on a home that can be written to.
os.environ.setdefault("MPLCONFIGDIR", str(ROOT / "_build" / ".matplotlib"))
#: Kernels encrypt what they say to this process; each would warn that it does not.
KernelManager._transport_encryption_policy = lambda self, value=None: "auto"
#: What `tests/notebook_comparison.py` puts where a cell cleared what it had shown.
CLEARED = "\x1bcleared\x1b"
#: Numbers agree within this part of the reference, or within the `floor` in their cell's metadata.
RTOL = 1e-6
NUMBER = re.compile(r"[-+]?(?:\d+\.(\d*)|\.(\d+)|\d+(?=e))(?:e[-+]?\d+)?", re.I)
#: Numbers printed with more decimals than this were not rounded: their last ones may be missing.
UNROUNDED = 10


def chapter_files(root=ROOT):
    """The chapters in the order of `_toc.yml`."""

    def walk(entry):
        if "file" in entry:
            yield root / f"{entry['file']}.md"
        for key in ("parts", "chapters", "sections"):
            for child in entry.get(key, ()):
                yield from walk(child)

    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf8"))
    return [root / f"{toc['root']}.md", *walk(toc)]


def notebook_chapters():
    """The chapters that contain code."""
    return [path for path in chapter_files() if "{code-cell}" in path.read_text(encoding="utf8")]


def reference_file(chapter):
    """Where the reference outputs of a chapter are kept."""
    name = chapter.relative_to(CHAPTERS).with_suffix(".json").as_posix()
    return REFERENCE / name.replace("/", "--")


def reference(chapter):
    """The reference outputs of a chapter's cells; none if there is no file."""
    file = reference_file(chapter)
    return json.loads(file.read_text(encoding="utf8"))["cells"] if file.exists() else []


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


def list_fonts():
    """Let Matplotlib list the fonts, if it has not: in a kernel, on a slow machine, it complains."""
    if not list(Path(os.environ["MPLCONFIGDIR"]).glob("fontlist-*.json")):
        code = "import matplotlib.font_manager"
        subprocess.run([sys.executable, "-c", code], capture_output=True)


def comparable(outputs):
    """Outputs without images, metadata and counts; a text that arrived in pieces is one."""
    kept = []
    for output in outputs:
        if CLEARED in output.get("text", ""):
            kept, output = [], {**output, "text": output["text"].rpartition(CLEARED)[2]}
        if output["output_type"] == "stream":
            if kept and kept[-1].get("name") == output["name"]:
                kept[-1]["text"] += output["text"]
            elif output["text"]:
                kept.append({name: output[name] for name in ("output_type", "name", "text")})
        elif "data" in output:
            data = {k: v for k, v in output["data"].items() if k not in IMAGES}
            if set(output["data"]) & set(IMAGES):
                data.pop("text/plain", None)  # "<Figure size ...>"
            if data:
                kept.append({"output_type": "display_data", "data": data, "metadata": {}})
    return kept


def _agree(new, old, floor):
    a, b = float(new[0]), float(old[0])
    decimals = [len(m[1] or m[2] or "") for m in (new, old)]
    as_printed = decimals[0] == decimals[1] or min(decimals) > UNROUNDED
    return as_printed and abs(a - b) <= max(RTOL * abs(b), floor)


def snap(new, old, floor=0.0):
    """The text `new`, each number replaced by its partner in the text `old` if the two agree.

    They agree if they have the same number of decimals and differ by at most the part RTOL of
    the old one, or by `floor`: the size of rounding errors in that cell, 0 unless it says so.
    """
    partners = [*NUMBER.finditer(old)]
    if len(partners) != len(NUMBER.findall(new)):
        return new
    waiting = iter(partners)

    def one(match):
        partner = next(waiting)
        return partner[0] if _agree(match, partner, floor) else match[0]

    return NUMBER.sub(one, new)


def snapped(new, old, cell):
    """The comparable outputs `new` of a cell, with the numbers of `old` where they agree."""
    new, floor = copy.deepcopy(new), float(cell.metadata.get("floor", 0.0))
    for fresh, known in zip(new, old, strict=False):
        texts, others = fresh.get("data", fresh), known.get("data", known)
        for key in texts.keys() & others.keys() - {"output_type", "name"}:
            if isinstance(texts[key], str):
                texts[key] = snap(texts[key], others[key], floor)
    return new


def state(root):
    """The digest of all that a chapter's code may depend on, besides its own cells."""
    root, digest = Path(root), hashlib.sha256()
    code = [p for p in (root / "lib").rglob("*") if p.suffix in (".py", ".cpp", ".hpp")]
    data = [p for p in (root / "results").rglob("*") if p.is_file()]
    data = [p for p in data if p.suffix not in (".part", ".new") and p.parent.name != "locks"]
    for path in sorted([*code, *data, root / "requirements.lock"]):
        if path.exists():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()[:16]


def executed_folder(root, docname, digest):
    """The execution cache of a chapter in one state of the code."""
    return Path(root, "_build", ".executed", digest, docname.replace("/", "-"))


def built(chapter, root=ROOT, digest=None):
    """The chapter as the last `make book` executed it; None if it or the code changed since then.

    root, digest : the book and the state of its code; None: as it is now.
    """
    from jupyter_cache import get_cache

    docname = chapter.relative_to(root).with_suffix("").as_posix()
    folder = executed_folder(root, docname, digest or state(root))
    if not folder.exists():
        return None
    try:
        done = get_cache(str(folder)).merge_match_into_notebook(read(chapter))[1]
    except (KeyError, ValueError):  # other cells, or a build was killed while it wrote
        return None
    return done if is_clean(done) else None


def execute(chapter):
    """The chapter, executed in its own folder."""
    from nbclient import NotebookClient

    notebook, place = read(chapter), {"metadata": {"path": str(chapter.parent)}}
    # A loop of its own, which is closed: this may be one of several threads.
    asyncio.run(NotebookClient(notebook, timeout=600, resources=place).async_execute())
    return notebook


def _write(notebook, folder, chapter):
    target = Path(folder) / chapter.relative_to(CHAPTERS).with_suffix(".ipynb")
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)
    return target


def assemble(folder):
    """Write each chapter with its reference outputs, for nbval to rerun and compare."""
    shutil.rmtree(folder, ignore_errors=True)
    for chapter in notebook_chapters():
        notebook, outputs = read(chapter), reference(chapter)
        cells = code(notebook)
        if len(outputs) != len(cells):
            # A note in place of the outputs: nbval shows it beside what the cell printed.
            note = f"no reference for this cell: run `make reference CHAPTER={chapter.stem}`\n"
            missing = [{"output_type": "stream", "name": "stdout", "text": note}]
            outputs = outputs[: len(cells)] + [missing] * (len(cells) - len(outputs))
        for number, (cell, kept) in enumerate(zip(cells, outputs, strict=True), 1):
            cell.outputs = [nbformat.from_dict(output) for output in kept]
            cell.execution_count = number  # nbval skips the comparison of cells that never ran
        _write(notebook, folder, chapter)
    own = "from notebook_comparison import install, pytest_ignore_collect\n\ninstall()\n"
    Path(folder, "conftest.py").write_text(own, encoding="utf8")


def execute_all(chapters, jobs, use_build=False):
    """(chapter, executed notebook) of each, in order; exits with 1 at the end if one failed."""
    failed = False
    list_fonts()
    with ThreadPoolExecutor(jobs) as pool:  # each waits for its kernel, which is a process
        runs = [pool.submit(lambda c=c: (use_build and built(c)) or execute(c)) for c in chapters]
        for chapter, run in zip(chapters, runs, strict=True):
            if error := run.exception():
                failed = True
                told = f"{chapter.relative_to(ROOT)}: {type(error).__name__}: {error}"
                print(told, file=sys.stderr)
            else:
                yield chapter, run.result()
    if failed:
        raise SystemExit(1)


def differences(old, new):
    """Lines that say how the comparable outputs of two runs differ."""
    texts = (json.dumps(cells, indent=1, ensure_ascii=False).splitlines() for cells in (old, new))
    told = difflib.unified_diff(*texts, n=0, lineterm="")
    return [line for line in told if not line.startswith(("---", "+++", "@@"))]


def renew(names, jobs, use_build=False):
    """Execute chapters (or take what the book build executed), write references, print changes."""
    from learning_dynamics.files import write_atomically

    chapters = [c for c in notebook_chapters() if not names or c.stem in names]
    if not chapters:
        raise SystemExit(f"{', '.join(names)}: no chapter with code has this name")
    REFERENCE.mkdir(exist_ok=True)
    for chapter, notebook in execute_all(chapters, jobs, use_build):
        new, old = [comparable(cell.outputs) for cell in code(notebook)], reference(chapter)
        if len(old) == len(new) and old == [*map(snapped, new, old, code(notebook))]:
            print(f"{chapter.relative_to(ROOT)}: unchanged")
            continue
        text = json.dumps({"cells": new}, indent=1, ensure_ascii=False) + "\n"
        write_atomically(reference_file(chapter), text.encode())
        print(f"{chapter.relative_to(ROOT)}: changed", *differences(old, new), sep="\n  ")
    if not names:
        for file in {*REFERENCE.glob("*.json")} - {*map(reference_file, notebook_chapters())}:
            print(f"{file.relative_to(ROOT)}: removed, its chapter is gone")
            file.unlink()


def tidy(root=ROOT):
    """Write every chapter as Jupyter does when it is opened and saved."""
    from jupytext import TextFileContentsManager

    manager = TextFileContentsManager(root_dir=str(root))
    for chapter in chapter_files(root):
        path = chapter.relative_to(root).as_posix()
        manager.save(manager.get(path, type="notebook"), path)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("assemble", "run", "reference", "tidy"))
    parser.add_argument("words", nargs="*", help="a folder, or names of chapters")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--built", action="store_true", help="take executed chapters from _build")
    options = parser.parse_args()
    if options.action == "assemble":
        list_fonts()
        assemble(options.words[0])
    elif options.action == "reference":
        renew(options.words, options.jobs, options.built)
    elif options.action == "tidy":
        tidy()
    else:
        for chapter, notebook in execute_all(notebook_chapters(), options.jobs, options.built):
            print(_write(notebook, options.words[0], chapter))


if __name__ == "__main__":
    main()
