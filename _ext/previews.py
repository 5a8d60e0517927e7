"""Previews of theorems, equations, figures, citations, signs and claims, readable without a network.

A page opened as a file cannot fetch another page. So after the build each page gets a script,
`_static/previews/PAGE.js`, with what its references point to; `_static/previews.js` loads it when
the reader first rests on a reference, and shows the piece in a card.
"""

import copy
import json
import posixpath
from pathlib import Path
from urllib.parse import unquote

from bs4 import BeautifulSoup

__all__ = ["fragment", "page_previews", "write_previews"]

FOLDER = "_static/previews"
ROOT = "@root@"
#: Not previewed: the API's pages repeat the source, and nothing refers to its parts.
SKIPPED = ("_static", "_modules", "_sources", "chapters/api.html")


def _piece(element):
    """The part of a page to show for a referenced element, or None if it is no preview's business."""
    classes = set(element.get("class") or ())
    if element.name in ("figure", "table", "tr") or classes & {"math", "proof"}:
        return element
    if "citation" in classes:
        return element.find("p")
    if element.name == "dt":
        return element.find_next_sibling("dd")
    if element.find_parent("summary") is not None:
        return element
    return None


def _row(row):
    """A row of a table as a paragraph: its cells in order, empty ones left out."""
    soup = BeautifulSoup("<p></p>", "html.parser")
    for cell in row.find_all(["td", "th"]):
        if cell.get_text(strip=True):
            if soup.p.contents:
                soup.p.append(" · ")
            inner = cell.find("p") or cell
            for child in list(copy.copy(inner).contents):
                soup.p.append(child)
    return soup.p


def fragment(element, page):
    """HTML of the preview of `element`, which stands on `page` (its path from the site's root).

    Without ids, links and buttons; addresses of images start with a mark for the site's root.
    Returns None if there is nothing to preview.
    """
    piece = _piece(element)
    if piece is None:
        return None
    piece = _row(piece) if piece.name == "tr" else copy.copy(piece)
    for extra in piece.select(".headerlink, .legend, button, script"):
        extra.decompose()
    for link in piece.find_all("a"):
        link.name, link.attrs = "span", {}
    for node in [piece, *piece.find_all(True)]:
        node.attrs.pop("id", None)
    for image in piece.find_all("img"):
        image["src"] = ROOT + posixpath.normpath(
            posixpath.join(posixpath.dirname(page), image["src"])
        )
    if piece.name == "dd":
        piece.name = "div"
    return str(piece)


def page_previews(page, soups):
    """What the references of `page` point to: address as written -> HTML.

    soups : parsed articles of all pages, by path from the site's root.
    """
    found = {}
    for link in soups[page].select("a.reference[href*='#']"):
        address = link["href"]
        file, _, anchor = address.partition("#")
        if not anchor or "://" in file or address in found:
            continue
        other = (
            posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(file)))
            if file
            else page
        )
        target = soups[other].find(id=unquote(anchor)) if other in soups else None
        html = fragment(target, other) if target is not None else None
        if html:
            found[address] = html
    return found


def _article(path):
    text = path.read_text(encoding="utf8")
    start, end = text.find("<article"), text.rfind("</article>")
    return BeautifulSoup(text[start:end] if start >= 0 else "", "html.parser")


def write_previews(site):
    """Write the previews of all pages of a built site; nothing if no page changed since."""
    site = Path(site)
    pages = {
        path.relative_to(site).as_posix(): path
        for path in sorted(site.rglob("*.html"))
        if not path.relative_to(site).as_posix().startswith(SKIPPED)
    }
    folder = site / FOLDER
    newest = max((p.stat().st_mtime for p in pages.values()), default=0.0)
    mark = folder / "all.js"
    if mark.exists() and mark.stat().st_mtime >= newest:
        return
    soups = {name: _article(path) for name, path in pages.items()}
    for name in pages:
        target = folder / Path(name).with_suffix(".js")
        target.parent.mkdir(parents=True, exist_ok=True)
        found = json.dumps(page_previews(name, soups), ensure_ascii=False)
        target.write_text(f"window.bookPreviews = {found};\n", encoding="utf8")
    mark.write_text("/* Written after the previews of all pages. */\n")


def _finished(app, exception):
    if exception is None and app.builder.name in ("html", "dirhtml"):
        write_previews(app.outdir)


def setup(app):
    """Connect to Sphinx."""
    app.connect("build-finished", _finished)
    return {"parallel_read_safe": True}
