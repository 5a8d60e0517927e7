"""A small book whose chapters are linked with its notation page."""

import subprocess
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).parent.parent
NOTATION = """# Notation

## Data

| sign | meaning |
| --- | --- |
| $X$ | inputs |
| $L$ | loss |

## The deep network (Part II)

| sign | meaning |
| --- | --- |
| $L$ | depth |

## Words

drop
: a fall of the loss.
"""
CHAPTER = """# On $X$

A formula $X + X$ uses it, $X = 1$ says what it is, $X$ names it, $X$ again; $L$ too.
Dropout is no drop. A second drop.
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The pages of the small book, parsed, by name."""
    book = tmp_path_factory.mktemp("book")
    (book / "chapters/saddles").mkdir(parents=True)
    (book / "chapters/scales").mkdir()
    (book / "chapters/index.md").write_text(
        "# Book\n\n```{toctree}\nnotation\nsaddles/one\nscales/two\n```\n"
    )
    (book / "chapters/notation.md").write_text(NOTATION)
    (book / "chapters/saddles/one.md").write_text(CHAPTER)
    (book / "chapters/scales/two.md").write_text(CHAPTER)
    (book / "_toc.yml").write_text(
        "root: chapters/index\nchapters: [{file: chapters/notation}, "
        "{file: chapters/saddles/one}, {file: chapters/scales/two}]\n"
    )
    (book / "conf.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT / '_ext')!r})\n"
        "extensions = ['myst_parser', 'signs']\nhtml_theme = 'basic'\n"
        "myst_enable_extensions = ['dollarmath', 'deflist']\nroot_doc = 'chapters/index'\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", ".", "_build/html"],
        cwd=book,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return {
        path.stem: BeautifulSoup(path.read_text(), "html.parser")
        for path in (book / "_build/html/chapters").rglob("*.html")
    }


def links(page):
    return {a.get_text(): a["href"] for a in page.select("a.sign")}


def test_first_uses_lead_to_the_notation(pages):
    assert links(pages["one"]) == {
        r"\(X\)": "../notation.html#sign-X",  # the sign alone, before the one with a relation
        r"\(L\)": "../notation.html#sign-L",
        "drop": "../notation.html#word-drop",  # not "Dropout"
    }
    assert links(pages["two"])[r"\(L\)"] == "../notation.html#sign-scales-L"
    assert all(
        len(pages[name].select("a.sign")) == len(links(pages[name])) for name in ("one", "two")
    )
    assert not pages["one"].select("h1 a.sign")


def test_signs_lead_to_their_first_use_and_every_target_exists(pages):
    back = [a["href"] for a in pages["notation"].select("a.sign")]
    assert back == [
        "saddles/one.html#first-sign-X",
        "saddles/one.html#first-sign-L",
        "scales/two.html#first-sign-scales-L",
    ]
    for address in [*back, *links(pages["one"]).values(), *links(pages["two"]).values()]:
        file, anchor = address.split("#")
        assert pages[Path(file).stem].find(id=anchor) is not None, address
