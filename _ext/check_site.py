"""Read the built site as a browser without a network would; complain about what it lacks.

    python _ext/check_site.py _build/html

No page may load a script, style, font, image or frame from elsewhere; every local one must exist;
every content image needs an alternative text; formulas must find MathJax beside the pages. No page
may show the text of a Python object, a zero printed as 0e+00, or an empty box of code.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

from faults import report, unreadable

LOADS = dict.fromkeys(["script", "img", "iframe", "source", "embed", "video", "audio"], "src")
LOADS["object"] = "data"
LOADING_LINKS = {
    *[
        "stylesheet",
        "preload",
        "prefetch",
        "icon",
        "shortcut",
        "modulepreload",
        "preconnect",
        "dns-prefetch",
    ],
    "manifest",
}
CSS_ADDRESS = re.compile(r"(?:url\(\s*|@import\s+(?!url\())['\"]?([^'\")\s]+)")


class _Page(HTMLParser):
    """What a page loads, and what is wrong with what it shows."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.faults, self.words, self.boxes = [], [], [], []
        self.open, self.in_box = "", False
        self.feed(text)
        self.faults += [f"shows {piece!r}" for piece in unreadable("".join(self.words))]
        self.faults += ["shows an empty box of code" for box in self.boxes if not box.strip()]

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        if tag in LOADS:
            self.loads.append(given.get(LOADS[tag], ""))
        if tag == "link" and LOADING_LINKS & {*given.get("rel", "").split()}:
            self.loads.append(given.get("href", ""))
        if tag == "img" and not given.get("alt", "").strip():
            self.faults.append(f"image {given.get('src')} has no alternative text")
        self.loads += CSS_ADDRESS.findall(given.get("style", ""))
        if tag in ("style", "script"):
            self.open = tag
        self.boxes += [""] if tag == "pre" else []
        self.in_box = tag == "pre" or self.in_box

    def handle_data(self, data):
        if self.open == "style":
            self.loads += CSS_ADDRESS.findall(data)
        if not self.open:
            self.words.append(data)
        if self.in_box:
            self.boxes[-1] += data

    def handle_endtag(self, tag):
        self.open = ""
        self.in_box = self.in_box and tag != "pre"


def _load_fault(page, address):
    parts = urlparse(address)
    if parts.netloc or parts.scheme in ("http", "https", "ftp"):
        return f"loads {address} from elsewhere"
    if parts.path and not parts.scheme and not (page.parent / unquote(parts.path)).exists():
        return f"loads {address}, which is not there"
    return None


def problems(site):
    """One sentence for each fault of the site."""
    site, found = Path(site), []
    pages = [p for p in sorted(site.rglob("*.html")) if p.relative_to(site).parts[0] != "_static"]
    for path in pages:
        page = _Page(path.read_text(encoding="utf8"))
        faults = [*filter(None, (_load_fault(path, a) for a in page.loads)), *page.faults]
        found += [f"{path.relative_to(site)}: {fault}" for fault in faults]
    for path in sorted(site.rglob("*.css")):
        text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf8"), flags=re.S)
        faults = [_load_fault(path, address) or "" for address in CSS_ADDRESS.findall(text)]
        found += [f"{path.relative_to(site)}: {f}" for f in faults if "elsewhere" in f]
    return found if pages else [f"{site}: holds no page"]


if __name__ == "__main__":
    sys.exit(report(problems, sys.argv[1]))
