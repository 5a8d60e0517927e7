"""A book of two pages in a folder of its own, built by the Makefile and the extensions of this one."""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
COPIED = ["Makefile", "_config.yml", "pyproject.toml", "references.bib", "claims.yml"]
COPIED += [p.name for p in ROOT.glob("requirements*.lock")]
TOC = """format: jb-book
root: chapters/index
parts:
  - caption: One part
    chapters:
      - file: chapters/one
"""
PAGE = """---
jupytext:
  text_representation: {{extension: .md, format_name: myst}}
kernelspec: {{display_name: Python 3, language: python, name: python3}}
---

# Page {name} in its state {state}

```{{code-cell}} ipython3
print("{name} printed", 10 * {state})
```
"""
COMPLAINT = """
```{code-cell} ipython3
import os
import sys

print(os.environ.get("COMPLAINT", ""), end="", file=sys.stderr)
```
"""
FIGURE = """
```{{code-cell}} ipython3
---
mystnb: {{figure: {{name: fig-line, caption: A line}}, image: {{alt: A line}}}}
---
import matplotlib.pyplot as plt
from paper.figures.style import use_book_style

use_book_style()
plt.plot([{state}, 0])
plt.show()
```
"""


def write(book, state):
    """Write the pages in a state, a number."""
    for name, text in (("index", PAGE), ("one", PAGE + FIGURE)):
        (book / "chapters" / f"{name}.md").write_text(text.format(name=name, state=state))


def make_book(folder):
    """The small book in `folder`, a new one; it uses the environment of this one."""
    for name in ("_ext", "_static", "lib"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in COPIED:
        shutil.copy(ROOT / name, folder)
    (folder / "_toc.yml").write_text(TOC)
    (folder / "chapters").mkdir()
    (folder / "results").mkdir()
    (folder / ".venv").symlink_to(ROOT / ".venv")
    write(folder, 0)
    return folder


def surroundings(**more):
    """The environment of a shell: what a `make` that runs these tests tells its children is taken out."""
    of_make = ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS")
    return {name: value for name, value in os.environ.items() if name not in of_make} | more


def start(book, *targets, before=(), **more):
    """`make` in a session of its own; it installs nothing, and proxies lead it nowhere."""
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    return subprocess.Popen(
        [*before, "make", "-o", ".venv/.installed", *targets],
        cwd=book,
        start_new_session=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=surroundings(**nowhere, PYTHONPATH=str(book / "lib"), JOBS="2", **more),
    )


def end(process):
    """(exit status, what was printed)."""
    told, _ = process.communicate(timeout=600)
    return process.returncode, told


def build(book, *targets, before=(), **more):
    """Run `make` to its end; what it printed. Fails unless it succeeds. more: set in its environment."""
    status, told = end(start(book, *targets, before=before, **more))
    assert status == 0, told[-3000:]
    return told


def kill(process):
    """kill -9 for `make` and all that it started, kernels too; False if it had ended."""
    running = process.poll() is None
    if running:
        whole = psutil.Process(process.pid)
        for one in [whole, *whole.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
    process.communicate()
    return running


def articles(book):
    """What stands on the pages of the website: name -> HTML, without the frame around it."""
    pages = (book / "_build" / "html" / "chapters").glob("*.html")
    return {
        p.name: p.read_text(encoding="utf8").partition("<article")[2].partition("</article>")[0]
        for p in pages
    }


def shows(book, state):
    """True if every page is in that state, output of its code included."""
    site = book / "_build" / "html" / "chapters"
    pages = {name: (site / f"{name}.html").read_text() for name in ("index", "one")}
    return all(
        f"in its state {state}" in page and f"{name} printed {10 * state}\n" in page
        for name, page in pages.items()
    )


def one_page(folder, text, address=""):
    """The site of one page, built with this book's configuration; warnings are errors."""
    for name in ("_ext", "_static"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "references.bib", folder)
    config = (ROOT / "_config.yml").read_text()
    assert '  url: ""' in config
    (folder / "_config.yml").write_text(config.replace('  url: ""', f'  url: "{address}"'))
    (folder / "_toc.yml").write_text("format: jb-book\nroot: page\n")
    head = (ROOT / "chapters/index.md").read_text().split("```")[0]
    (folder / "page.md").write_text(head + "# Page\n\n" + text)
    command = [Path(sys.executable).with_name("jupyter-book"), "build", ".", "-n", "-W"]
    done = subprocess.run([*command, "--keep-going"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "_build" / "html"
