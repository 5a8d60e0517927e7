"""The single-page site printed by Chromium: a tagged PDF, which a screen reader can follow.

    python _ext/tagged_pdf.py _build/singlehtml _build/tagged/learning_dynamics.pdf

Adds a title page, contents and parts to the page, prints it with `_static/print.css`, and complains
when the file is not tagged, lacks an outline or a formula was not typeset.
"""

import json
import re
import sys
from pathlib import Path

import yaml

from browser import open_page, site_browser
from check_browser import formula_problems
from faults import report
from latex_style import first_chapters

TOC = Path(__file__).resolve().parent.parent / "_toc.yml"
SINGLE = "chapters/index.html"
TITLE = "From saddle to saddle, and at every scale", "The learning_dynamics contributors"

ARRANGE = Path(__file__).with_name("print_layout.js").read_text(encoding="utf8")
PRINT = json.loads(Path(__file__).with_name("print_options.json").read_text(encoding="utf8"))
EAGER = "() => Promise.all([...document.images].map((i) => i.decode().catch(() => null)))"


def at_the_root(site):
    """The single page, moved to where its addresses are right: Sphinx counts them from the root."""
    page = Path(site) / "book.html"
    text = (Path(site) / SINGLE).read_text(encoding="utf8")
    page.write_text(text.replace(f'href="{SINGLE}#', 'href="#'), encoding="utf8")
    return page


def print_book(site, target):
    """Print the book; the faults that were seen on the way.

    Raises FileNotFoundError if there is no single-page site, or no browser.
    """
    if not (Path(site) / SINGLE).exists():
        raise FileNotFoundError(f"{site} holds no single-page site")
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    parts = first_chapters(yaml.safe_load(TOC.read_text(encoding="utf8"))).values()
    with site_browser() as browser:
        page = open_page(browser, at_the_root(site), seconds=900)
        page.evaluate(ARRANGE, [*TITLE, list(parts)])
        page.evaluate(EAGER)
        page.emulate_media(media="print")
        found = formula_problems(page)
        page.pdf(path=str(target), **PRINT)
    return found + file_problems(target.read_bytes())


def file_problems(pdf):
    """What a PDF of Chromium lacks to be read aloud; its structure is not compressed."""
    wanted = {
        "it is not marked as tagged": rb"/MarkInfo\s*<<[^>]*/Marked\s+true",
        "it has no structure": rb"/StructTreeRoot\s+\d+ 0 R",
        "it names no language": rb"/Lang\s*[(<]",
        "it has no outline": rb"/Outlines\s+\d+ 0 R",
        "it has no title": rb"/Title\s*[(<]",
        "it has no headings": rb"/S\s*/H2\b",
        "its figures have no alternative text": rb"/Alt\s*[(<]",
    }
    return [f"tagged PDF: {fault}" for fault, sign in wanted.items() if not re.search(sign, pdf)]


if __name__ == "__main__":
    sys.exit(report(print_book, *sys.argv[1:]))
