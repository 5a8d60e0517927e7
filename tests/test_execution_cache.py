"""A chapter runs again when what it depends on changed, and only then."""

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
from dependencies import chapter_digest, code_cells, imported_modules, record_files
from execution_cache import cache_folder
from notebooks import built
from small_book import COMPLAINT

ROOT = Path(__file__).parent.parent
HEAD = """---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
"""
CHAPTER = (
    HEAD
    + """
# A chapter

```{code-cell} ipython3
---
tags: [remove-input]
---
%matplotlib inline
from pathlib import Path
from learning_dynamics.wing import used

with Path("../runs.txt").open("a") as log:
    log.write("once more\\n")
print(1 + 1)
```
"""
)


@pytest.fixture
def book(tmp_path):
    """A small book: one chapter that imports `wing.used`, which imports `ground` and reads data."""
    lib = tmp_path / "lib" / "learning_dynamics"
    (lib / "wing").mkdir(parents=True)
    (lib / "__init__.py").write_text("")
    (lib / "wing" / "__init__.py").write_text('"""A wing."""\n')
    (lib / "ground.py").write_text('"""Ground."""\nONE = 1\n')
    (lib / "unused.py").write_text("TWO = 2\n")
    (lib / "wing" / "unused.py").write_text("TWO = 2\n")
    (lib / "wing" / "used.py").write_text(
        '"""Doc."""\nfrom learning_dynamics.ground import ONE\nDATA = "levels.json"\n'
        'def f():\n    """Doc."""\n    return ONE  # comment\n'
    )
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "levels.json").write_text("[1]")
    (tmp_path / "results" / "other.json").write_text("[1]")
    (tmp_path / "requirements.lock").write_text("numpy==2.0\n")
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "one.md").write_text(CHAPTER)
    return tmp_path


def digest(book):
    return chapter_digest(book, book / "chapters" / "one.md")


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


USED, GROUND = "lib/learning_dynamics/wing/used.py", "lib/learning_dynamics/ground.py"


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (USED, "return ONE", "return ONE + 1"),
        (GROUND, "ONE = 1", "ONE = 3"),
        ("lib/learning_dynamics/wing/__init__.py", '"""A wing."""', "import os"),
        ("results/levels.json", "1", "2"),
        ("requirements.lock", "2.0", "2.1"),
    ],
)
def test_a_change_that_matters_is_noticed(book, file, old, new):
    before = digest(book)
    edit(book / file, old, new)
    assert digest(book) != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (USED, "# comment", "# another comment"),
        (USED, '    """Doc."""', '    """Another docstring."""'),
        (USED, '"""Doc."""\nfrom', '"""Another module docstring."""\n\n\nfrom'),
        (GROUND, '"""Ground."""\n', ""),
        ("lib/learning_dynamics/unused.py", "2", "3"),
        ("lib/learning_dynamics/wing/unused.py", "2", "3"),
        ("results/other.json", "1", "2"),
        ("chapters/one.md", "# A chapter", "# Another title"),
    ],
)
def test_a_change_that_does_not_matter_is_not(book, file, old, new):
    before = digest(book)
    edit(book / file, old, new)
    assert digest(book) == before


def test_going_back_finds_the_earlier_state(book):
    before = digest(book)
    edit(book / GROUND, "1", "2")
    edit(book / GROUND, "2", "1")
    assert digest(book) == before


def test_import_closure_of_a_real_module():
    import ast

    names = set(
        imported_modules(ROOT, [ast.parse("from learning_dynamics.saddles import two_layer")])
    )
    assert {
        "learning_dynamics",
        "learning_dynamics.saddles",
        "learning_dynamics.saddles.two_layer",
        "learning_dynamics.runtime",
        "learning_dynamics.losses",
    } <= names
    assert not any(name.startswith("learning_dynamics.scales") for name in names)


def test_cells_and_records():

    (source,) = code_cells(CHAPTER)
    assert "%matplotlib" not in source
    assert "remove-input" not in source
    compile(source, "cell", "exec")
    found = record_files(ROOT, {"claims.json", "other"})
    assert [path.name for path in found] == ["claims.json"]


def test_every_chapter_can_be_read():
    for chapter in (ROOT / "chapters").rglob("*.md"):
        assert re.fullmatch(r"[0-9a-f]{16}", chapter_digest(ROOT, chapter))


@pytest.fixture
def cached(book, monkeypatch):
    """The file in which the book keeps the executed chapter."""
    monkeypatch.setattr(notebooks, "ROOT", book)
    folder = cache_folder(book, "chapters/one", digest(book))
    notebook = notebooks.read(book / "chapters" / "one.md")
    get_cache(str(folder)).cache_notebook_bundle(
        CacheBundleIn(notebook, "one"), check_validity=False
    )
    (file,) = folder.rglob("base.ipynb")
    return file


def test_a_whole_cache_folder_is_kept(book, cached):
    assert cache_folder(book, "chapters/one", digest(book)) in cached.parents
    assert cached.exists()
    assert built(book / "chapters" / "one.md") is not None


@pytest.mark.parametrize("left", ["no file", "half a file", "an empty file", "half a database"])
def test_what_a_killed_build_left_in_the_cache_is_not_used(book, cached, left):
    if left == "half a database":
        database = cached.parents[2] / "global.db"
        database.write_bytes(database.read_bytes()[:5000])
    elif left == "no file":
        cached.unlink()
    else:
        whole = cached.read_text()
        cached.write_text(whole[: len(whole) // 2 if left == "half a file" else 0])
        assert built(book / "chapters" / "one.md") is None
    folder = cache_folder(book, "chapters/one", digest(book))
    assert folder.is_dir() and not list(folder.iterdir())


def sphinx(book, builder="html", **environment):
    """Build with Sphinx in a process of its own; two kernels at a time."""
    (book / "conf.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT / '_ext')!r})\n"
        "extensions = ['myst_nb', 'execution_cache']\n"
        "root_doc = 'chapters/one'\nnb_execution_mode = 'cache'\n"
        "nb_execution_raise_on_error = True\nnb_execution_show_tb = True\nhtml_theme = 'basic'\n"
        "exclude_patterns = ['_build', 'lib']\nnb_output_stderr = 'error'\n"
    )
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "sphinx",
            "-b",
            builder,
            "-d",
            "_build/.doctrees",
            ".",
            f"_build/{builder}",
        ],
        cwd=book,
        capture_output=True,
        text=True,
        env={**os.environ, "JOBS": "2", **environment},
    )


def build(book):
    """Build with Sphinx; how often the chapter has run so far."""
    done = sphinx(book)
    assert done.returncode == 0, done.stderr
    assert ">2\n" in (book / "_build/html/chapters/one.html").read_text()
    return len((book / "runs.txt").read_text().splitlines())


def test_sphinx_runs_a_chapter_again_exactly_when_it_must(book):
    cell = book / "chapters" / "one.md"
    cell.write_text(
        CHAPTER.replace("learning_dynamics.wing import used", "learning_dynamics import losses")
    )
    lib = book / "lib" / "learning_dynamics"
    (lib / "losses.py").write_text('"""Doc."""\nA = 1\n')
    assert build(book) == 1
    assert build(book) == 1  # nothing changed
    (lib / "losses.py").write_text('"""Another docstring."""\nA = 1  # and a comment\n')
    (lib / "ground.py").write_text("ONE = 7\n")
    assert build(book) == 1  # nothing that matters changed
    (lib / "losses.py").write_text('"""Doc."""\nA = 2\n')
    assert build(book) == 2
    (lib / "losses.py").write_text('"""Doc."""\nA = 1\n')
    assert build(book) == 2  # the earlier outputs are still there


def test_a_page_is_written_again_though_another_builder_read_the_change(book):
    cell, page = book / "chapters" / "one.md", book / "_build/html/chapters/one.html"
    counting = CHAPTER.replace(
        "print(1 + 1)", 'print(len(Path("../runs.txt").read_text().split("\\n")))'
    )
    cell.write_text(
        counting.replace("learning_dynamics.wing import used", "learning_dynamics import losses")
    )
    losses = book / "lib" / "learning_dynamics" / "losses.py"
    losses.write_text("A = 1\n")
    assert build(book) == 1  # prints 2, as `build` asks for
    losses.write_text("A = 2\n")
    assert sphinx(book, "latex").returncode == 0
    assert sphinx(book).returncode == 0
    assert ">3\n" in page.read_text()


def kept(book):
    """The executed notebooks in the cache."""
    return list((book / "_build" / ".executed").rglob("base.ipynb"))


@pytest.mark.parametrize("chapters", [1, 2])  # the second is executed ahead, beside the first
def test_what_a_cell_wrote_to_stderr_is_not_kept(book, chapters):
    chapter = CHAPTER.replace("from learning_dynamics.wing import used\n", "") + COMPLAINT
    for name in ("one", "two")[:chapters]:
        text = chapter if name == "one" else chapter.replace("---", "---\norphan: true", 1)
        (book / "chapters" / f"{name}.md").write_text(text)
    done = sphinx(book, COMPLAINT="no home")
    assert "stderr was found in the cell outputs" in done.stderr
    assert kept(book) == []
    shutil.rmtree(book / "_build" / ".doctrees")  # as the Makefile does after an error
    runs = build(book)
    assert len(kept(book)) == chapters
    assert build(book) == runs


def test_a_cache_that_holds_stderr_is_emptied_and_not_taken_over(book, cached):
    """As a killed build leaves it."""
    text = cached.read_text()
    said = {"output_type": "stream", "name": "stderr", "text": ["no home"]}
    cached.write_text(text.replace('"outputs": []', f'"outputs": [{json.dumps(said)}]', 1))
    assert built(book / "chapters" / "one.md") is None
    cache_folder(book, "chapters/one", digest(book))
    assert '"outputs": []' in text and kept(book) == []


def test_matplotlib_s_own_files_lie_in_the_build_folder():
    said = subprocess.run(
        ["make", "-n", "-p", "place"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "MPLCONFIGDIR"},
    ).stdout
    assert re.search(r"^MPLCONFIGDIR \?= \$\(CURDIR\)/_build/", said, re.M)
    for module in ("execution_cache", "notebooks"):
        code = f"import {module}, os; print(os.environ['MPLCONFIGDIR'])"
        said = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT / "_ext",
            text=True,
            capture_output=True,
            env={"PATH": os.environ["PATH"]},
        ).stdout
        assert Path(said.strip()).parent == ROOT / "_build"


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
    chapter = CHAPTER.replace("from learning_dynamics.wing import used\n", "")
    one.write_text(chapter + MEET.replace("ME", "1").replace("OTHER", "2"))
    two.write_text(
        chapter.replace("---", "---\norphan: true", 1)
        + MEET.replace("ME", "2").replace("OTHER", "1")
    )
    assert build(book) == 2  # once each
    one.write_text(one.read_text().replace("print(1 + 1)", "print(7 / 0)"))
    two.write_text(two.read_text().replace("print(1 + 1)", "print(2)"))
    done = sphinx(book)
    assert done.returncode != 0
    assert "ZeroDivisionError" in done.stderr
    assert "one.md" in done.stderr
