"""Previews of theorems, equations, figures, citations and claims, readable without a network.

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

FOLDER = "_static/previews"
ROOT = "@root@"
#: Not previewed: the API's pages repeat the source.
SKIPPED = ("_static", "_modules", "_sources", "api/")


def fragment(element, page):
    """HTML of the preview of `element`, which stands on `page`; None if there is nothing to preview.

    Without ids, links and buttons; addresses of images start with a mark for the site's root.
    """
    classes, name = set(element.get("class") or ()), element.name
    known = name in ("dt", "figure", "table") or classes & {"citation", "math", "proof"}
    if not known and not element.find_parent("summary"):
        return None
    if "citation" in classes:
        element = element.find("p")
    elif name == "dt":
        element = element.find_next_sibling("dd")
    piece = copy.copy(element)
    for extra in piece.select(".headerlink, .legend, button, script"):
        extra.decompose()
    for node in [piece, *piece.find_all(True)]:
        node.attrs.pop("id", None)
        if node.name == "a":
            node.name, node.attrs = "span", {}
        if node.name == "img":
            place = posixpath.join(posixpath.dirname(page), node["src"])
            node["src"] = ROOT + posixpath.normpath(place)
    piece.name = "div" if piece.name == "dd" else piece.name
    return str(piece)


def page_previews(page, soups):
    """What the references of `page` point to: address as written -> HTML.

    soups : parsed articles of all pages, by path from the site's root.
    """
    found = {}
    for link in soups[page].select("a.reference[href*='#']"):
        address = link["href"]
        file, _, anchor = address.partition("#")
        place = posixpath.join(posixpath.dirname(page), unquote(file))
        other = posixpath.normpath(place) if file else page
        if anchor and other in soups and address not in found:
            target = soups[other].find(id=unquote(anchor))
            html = fragment(target, other) if target is not None else None
            found |= {address: html} if html else {}
    return found


def _article(path):
    _, start, text = path.read_text(encoding="utf8").partition("<article")
    return BeautifulSoup(start + text.rpartition("</article>")[0], "html.parser")


def write_previews(site):
    """Write the previews of all pages of a built site."""
    site = Path(site)
    pages = {path.relative_to(site).as_posix(): path for path in sorted(site.rglob("*.html"))}
    soups = {name: _article(p) for name, p in pages.items() if not name.startswith(SKIPPED)}
    for name in soups:
        target = site / FOLDER / Path(name).with_suffix(".js")
        target.parent.mkdir(parents=True, exist_ok=True)
        found = json.dumps(page_previews(name, soups), ensure_ascii=False)
        target.write_text(f"window.bookPreviews = {found};\n", encoding="utf8")


def _finished(app, exception):
    if exception is None and app.builder.name == "html":
        write_previews(app.outdir)


def setup(app):
    """Connect to Sphinx."""
    app.connect("build-finished", _finished)
    return {"parallel_read_safe": True}
