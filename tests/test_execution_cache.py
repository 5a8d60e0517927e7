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

ROOT = Path(__file__).parent.parent
CHAPTER = """---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3, language: python, name: python3}
---

# A chapter

~~~{code-cell} ipython3
%%html
<b>a magic</b>
~~~

```{code-cell} ipython3
!echo a command
```

```{code-cell} ipython3
---
tags: [remove-input]
---
%matplotlib inline
from pathlib import Path

with Path("../runs.txt").open("a") as log:
    log.write("once more\\n")
print(1 + 1)
```
"""
COMPLAINT = """
```{code-cell} ipython3
import os
import sys

print(os.environ.get("COMPLAINT", ""), end="", file=sys.stderr)
```
"""
CODE, KERNEL, RECORD = "lib/paper/used.py", "lib/paper/kernel.hpp", "results/levels.json"


@pytest.fixture
def book(tmp_path):
    """A small book of one chapter, with code, a record and a lock."""
    files = {
        CODE: "ONE = 1\n",
        KERNEL: "int one = 1;\n",
        RECORD: "[1]",
        "results/locks/levels.json": "1",
        "lib/paper/__pycache__/used.pyc": "1",
        "requirements.lock": "numpy==1.0\n",
        "chapters/one.md": CHAPTER,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("file", [CODE, KERNEL, RECORD, "requirements.lock"])
def test_a_change_that_matters_is_noticed_and_taking_it_back_as_well(book, file):
    before, text = state(book), (book / file).read_text()
    (book / file).write_text(text.replace("1", "2"))
    assert state(book) != before
    (book / file).write_text(text)
    assert state(book) == before
    (book / file).rename((book / file).with_stem("renamed"))
    assert state(book) != before


@pytest.mark.parametrize(
    "file", ["chapters/one.md", "results/locks/levels.json", "lib/paper/__pycache__/used.pyc"]
)
def test_text_locks_and_byte_code_do_not_matter(book, file):
    before = state(book)
    (book / file).write_text("another")
    assert state(book) == before


@pytest.fixture
def cached(book):
    """The file in which the book keeps the executed chapter."""
    folder = cache_folder(book, "chapters/one", state(book))
    bundle = CacheBundleIn(notebooks.read(book / "chapters" / "one.md"), "one")
    get_cache(str(folder)).cache_notebook_bundle(bundle, check_validity=False)
    (file,) = folder.rglob("base.ipynb")
    return file


@pytest.mark.parametrize(
    "left", ["all", "no file", "half a file", "an empty file", "half a database", "stderr"]
)
def test_what_a_killed_build_left_in_the_cache_is_not_used(book, cached, left):
    whole = cached.read_text()
    if left == "all":
        pass
    elif left == "half a database":
        database = cached.parents[2] / "global.db"
        database.write_bytes(database.read_bytes()[:5000])
    elif left == "no file":
        cached.unlink()
    elif left == "stderr":
        said = {"output_type": "stream", "name": "stderr", "text": ["no home"]}
        cached.write_text(whole.replace('"outputs": []', f'"outputs": [{json.dumps(said)}]', 1))
    else:
        cached.write_text(whole[: len(whole) // 2 if left == "half a file" else 0])
    folder = cache_folder(book, "chapters/one", state(book))
    assert folder.is_dir() and bool(list(folder.iterdir())) is cached.exists() is (left == "all")


def sphinx(book, builder="html", **environment):
    """Build with Sphinx in a process of its own; two kernels at a time."""
    (book / "conf.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT / '_ext')!r})\n"
        "extensions = ['myst_nb', 'execution_cache']\n"
        "root_doc = 'chapters/one'\nnb_execution_mode = 'cache'\n"
        "nb_execution_raise_on_error = True\nnb_execution_show_tb = True\nhtml_theme = 'basic'\n"
        "exclude_patterns = ['_build', 'lib']\nnb_output_stderr = 'error'\n"
    )
    command = [sys.executable, "-m", "sphinx", "-q", "-b", builder, "-d", "_build/.doctrees"]
    own = os.environ | {"JOBS": "2"} | environment
    command += [".", f"_build/{builder}"]
    return subprocess.run(command, cwd=book, capture_output=True, text=True, env=own)


def build(book):
    """Build with Sphinx; how often the chapter has run so far."""
    done = sphinx(book)
    assert done.returncode == 0, done.stderr
    assert ">2\n" in (book / "_build/html/chapters/one.html").read_text()
    # A kernel that ends on a busy machine may complain of its own socket; Sphinx says WARNING.
    assert "WARNING" not in done.stderr
    return len((book / "runs.txt").read_text().splitlines())


def test_sphinx_runs_a_chapter_again_exactly_when_it_must(book):
    chapter, code = book / "chapters" / "one.md", book / CODE
    assert build(book) == 1
    assert build(book) == 1  # nothing changed
    chapter.write_text(CHAPTER.replace("# A chapter", "# Another title"))
    assert build(book) == 1  # a text changed
    code.write_text("ONE = 2\n")
    assert build(book) == 2
    code.write_text("ONE = 1\n")
    assert build(book) == 2  # the earlier outputs are still there


def test_a_page_is_written_again_though_another_builder_read_the_change(book):
    cell, page = book / "chapters" / "one.md", book / "_build/html/chapters/one.html"
    counted = 'print(len(Path("../runs.txt").read_text().split("\\n")))'
    cell.write_text(CHAPTER.replace("print(1 + 1)", counted))
    assert build(book) == 1  # prints 2, as `build` asks for
    (book / CODE).write_text("A = 2\n")
    assert sphinx(book, "latex").returncode == 0
    assert sphinx(book).returncode == 0
    assert ">3\n" in page.read_text()


@pytest.mark.parametrize("chapters", [1, 2])  # the second is executed ahead, beside the first
def test_what_a_cell_wrote_to_stderr_is_not_used_again(book, chapters):
    for name in ("one", "two")[:chapters]:
        text = CHAPTER + COMPLAINT
        text = text if name == "one" else text.replace("---", "---\norphan: true", 1)
        (book / "chapters" / f"{name}.md").write_text(text)
    done = sphinx(book, COMPLAINT="no home")
    assert "stderr was found in the cell outputs" in done.stderr
    shutil.rmtree(book / "_build" / ".doctrees")  # as the Makefile does after an error
    runs = build(book)
    assert build(book) == runs


def test_matplotlib_s_own_files_lie_in_the_build_folder():
    code = "import execution_cache, os; print(os.environ['MPLCONFIGDIR'])"
    own = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "lib")}
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, cwd=ROOT / "_ext", text=True, capture_output=True, env=own)
    assert Path(said.stdout.strip()).parent == ROOT / "_build"
    assert re.search(r"^export MPLCONFIGDIR .*_build/", (ROOT / "Makefile").read_text(), re.M)


MEET = """
```{code-cell} ipython3
import time

Path("../started-ME.txt").touch()
while not Path("../started-OTHER.txt").exists():
    time.sleep(0.05)
```
"""


def test_chapters_run_side_by_side_and_an_error_is_reported(book):
    """Each of two chapters waits for the other: one after the other they would never end."""
    one, two = (book / "chapters" / f"{name}.md" for name in ("one", "two"))
    one.write_text(CHAPTER + MEET.replace("ME", "1").replace("OTHER", "2"))
    orphan = CHAPTER.replace("---", "---\norphan: true", 1)
    two.write_text(orphan + MEET.replace("ME", "2").replace("OTHER", "1"))
    assert build(book) == 2  # once each
    one.write_text(one.read_text().replace("print(1 + 1)", "print(7 / 0)"))
    two.write_text(two.read_text().replace("print(1 + 1)", "print(2)"))
    done = sphinx(book)
    assert done.returncode != 0
    assert "ZeroDivisionError" in done.stderr
    assert "one.md" in done.stderr
    told = [line.split(":")[0] for line in done.stdout.splitlines()]
    assert sorted(told) == ["chapters/one", "chapters/two"]  # a line each
