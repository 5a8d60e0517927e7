"""Read the built site as a browser without a network would; complain about what it lacks.

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

__all__ = ["problems"]

LOADS = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "embed": "src",
    "object": "data",
    "video": "src",
    "audio": "src",
}
LOADING_LINKS = {
    "stylesheet",
    "preload",
    "prefetch",
    "icon",
    "shortcut",
    "modulepreload",
    "preconnect",
    "dns-prefetch",
    "manifest",
}
CSS_ADDRESS = re.compile(r"(?:url\(\s*|@import\s+(?!url\())['\"]?([^'\")\s]+)")


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.loads, self.silent_images, self.words, self.boxes = [], [], [], []
        self.hidden = self.style = self.box = False

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag in LOADS and attributes.get(LOADS[tag]):
            self.loads.append(attributes[LOADS[tag]])
        if tag == "link" and LOADING_LINKS & set((attributes.get("rel") or "").split()):
            self.loads.append(attributes.get("href") or "")
        if tag == "img" and not (attributes.get("alt") or "").strip():
            self.silent_images.append(attributes.get("src"))
        self.loads.extend(CSS_ADDRESS.findall(attributes.get("style") or ""))
        self.style, self.hidden = tag == "style", tag in ("script", "style")
        if tag == "pre":
            self.box = True
            self.boxes.append("")

    def handle_data(self, data):
        if self.style:
            self.loads.extend(CSS_ADDRESS.findall(data))
        if not self.hidden:
            self.words.append(data)
        if self.box:
            self.boxes[-1] += data

    def handle_endtag(self, tag):
        self.style = self.hidden = False
        self.box = self.box and tag != "pre"


def _elsewhere(address):
    parts = urlparse(address)
    return bool(parts.netloc) or parts.scheme in ("http", "https", "ftp")


def _check_address(site, page, address):
    where = page.relative_to(site)
    if address.startswith(("data:", "#", "javascript:")) or not address:
        return None
    if _elsewhere(address):
        return f"{where}: loads {address} from elsewhere"
    target = page.parent / unquote(urlparse(address).path)
    if not target.exists():
        return f"{where}: loads {address}, which is not there"
    return None


def problems(site):
    """One sentence for each fault of the site."""
    site = Path(site)
    pages = [p for p in sorted(site.rglob("*.html")) if p.relative_to(site).parts[0] != "_static"]
    found = [] if pages else [f"{site}: holds no page"]
    for path in pages:
        page = _Page()
        page.feed(path.read_text(encoding="utf8"))
        found += [_check_address(site, path, address) for address in page.loads]
        found += [
            f"{path.relative_to(site)}: image {source} has no alternative text"
            for source in page.silent_images
        ]
        shown = [f"shows {text!r}" for text in unreadable("".join(page.words))]
        shown += ["shows an empty box of code" for text in page.boxes if not text.strip()]
        found += [f"{path.relative_to(site)}: {fault}" for fault in shown]
    for path in sorted(site.rglob("*.css")):
        text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf8"), flags=re.S)
        found += [
            f"{path.relative_to(site)}: loads {address} from elsewhere"
            for address in CSS_ADDRESS.findall(text)
            if _elsewhere(address)
        ]
    return [fault for fault in found if fault]


def main(site):
    """Print the faults; 1 if there is any."""
    return report(problems, site)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
