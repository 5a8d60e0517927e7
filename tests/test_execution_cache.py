"""A chapter runs again when the code, a record or the lock changed, and not when a text did."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn

import notebooks
from execution_cache import cache_folder, state
from tables import text

ROOT = Path(__file__).parent.parent
CHAPTER, COMPLAINT, MEET = map(text, ("chapter.md", "complaint.md", "meet.md"))
ORPHAN = CHAPTER.replace("---", "---\norphan: true", 1)
CODE, KERNEL, RECORD = "lib/paper/used.py", "lib/paper/kernel.hpp", "results/levels.json"
IDLE = "results/locks/levels.json", "lib/paper/__pycache__/used.pyc"
FILES = {CODE: "ONE = 1\n", KERNEL: "int one = 1;\n", RECORD: "[1]", IDLE[0]: "1", IDLE[1]: "1"}
FILES |= {"requirements.lock": "numpy==1.0\n", "chapters/one.md": CHAPTER}
CONF = f"""
import sys; sys.path.insert(0, {str(ROOT / "_ext")!r})
extensions, root_doc, html_theme = ['myst_nb', 'execution_cache'], 'chapters/one', 'basic'
nb_execution_mode, nb_output_stderr = 'cache', 'error'
nb_execution_raise_on_error = nb_execution_show_tb = True
exclude_patterns = ['_build', 'lib']
"""


@pytest.fixture
def book(tmp_path):
    """A small book of one chapter, with code, a record and a lock."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.mark.parametrize("file", FILES)
def test_a_change_is_noticed_exactly_when_it_matters_and_taking_it_back_as_well(book, file):
    before, matters = state(book), file not in ("chapters/one.md", *IDLE)
    (book / file).write_text(FILES[file].replace("1", "2") + "2")
    assert (state(book) != before) is matters
    (book / file).write_text(FILES[file])
    assert state(book) == before
    (book / file).rename((book / file).with_stem("renamed"))
    assert (state(book) != before) is matters


@pytest.mark.parametrize("left", ["all", "no file", "half a file", "half a database", "stderr"])
def test_what_a_killed_build_left_in_the_cache_is_not_used(book, left):
    folder = cache_folder(book, "chapters/one", state(book))
    bundle = CacheBundleIn(notebooks.read(book / "chapters" / "one.md"), "one")
    get_cache(str(folder)).cache_notebook_bundle(bundle, check_validity=False)
    (cached,) = folder.rglob("base.ipynb")
    whole = cached.read_text()
    if left == "half a database":
        database = cached.parents[2] / "global.db"
        database.write_bytes(database.read_bytes()[:5000])
    elif left == "no file":
        cached.unlink()
    elif left == "stderr":
        said = {"output_type": "stream", "name": "stderr", "text": ["no home"]}
        cached.write_text(whole.replace('"outputs": []', f'"outputs": [{json.dumps(said)}]', 1))
    elif left != "all":
        cached.write_text(whole[: len(whole) // 2])
    folder = cache_folder(book, "chapters/one", state(book))
    assert folder.is_dir() and bool(list(folder.iterdir())) is cached.exists() is (left == "all")


def sphinx(book, builder="html", **environment):
    """Build with Sphinx in a process of its own; two kernels at a time."""
    (book / "conf.py").write_text(CONF)
    command = [sys.executable, "-m", "sphinx", "-q", "-b", builder, "-d", "_build/.doctrees"]
    own = os.environ | {"JOBS": "2"} | environment
    command += [".", f"_build/{builder}"]
    return subprocess.run(command, cwd=book, capture_output=True, text=True, env=own)


def build(book):
    """Build with Sphinx; which run of the chapter the page shows."""
    done = sphinx(book)
    assert done.returncode == 0, done.stderr
    # A kernel that ends on a busy machine may complain of its own socket; Sphinx says WARNING.
    assert "WARNING" not in done.stderr
    return int(re.search(r"run (\d)", (book / "_build/html/chapters/one.html").read_text())[1])


def runs(book):
    return len((book / "runs.txt").read_text().splitlines())


def test_sphinx_runs_a_chapter_again_exactly_when_it_must(book):
    assert build(book) == 1
    (book / "chapters/one.md").write_text(CHAPTER.replace("# A chapter", "# Another title"))
    assert build(book) == runs(book) == 1  # a text changed
    (book / CODE).write_text("ONE = 2\n")
    assert sphinx(book, "latex").returncode == 0  # another builder reads the change first
    assert build(book) == runs(book) == 2


def test_what_a_cell_wrote_to_stderr_is_not_used_again(book):
    """Each of two chapters waits for the other: one after the other they would never end."""
    one, two = (book / "chapters" / f"{name}.md" for name in ("one", "two"))
    one.write_text(CHAPTER + COMPLAINT + MEET.replace("ME", "1").replace("OTHER", "2"))
    two.write_text(ORPHAN + COMPLAINT + MEET.replace("ME", "2").replace("OTHER", "1"))
    assert "stderr was found in the cell outputs" in sphinx(book, COMPLAINT="no home").stderr
    before = runs(book)
    shutil.rmtree(book / "_build" / ".doctrees")  # as the Makefile does after an error
    assert build(book) > 2 and runs(book) == before + 2
    one.write_text(one.read_text().replace('print("run"', 'print(7 / 0, "run"'))
    two.write_text(two.read_text().replace('print("run"', 'print("again"'))
    done = sphinx(book)
    assert done.returncode and "ZeroDivisionError" in done.stderr and "one.md" in done.stderr
    told = [line.split(":")[0] for line in done.stdout.splitlines()]
    assert sorted(told) == ["chapters/one", "chapters/two"]  # a line each
