"""Read the built site as a browser without a network would; complain about what it lacks.

    python _ext/check_site.py _build/html

No page may load a script, style, font, image or frame from elsewhere; every local one must exist;
every content image needs an alternative text; formulas must find MathJax beside the pages. No page
may show the text of a Python object, a zero printed as 0e+00, or an empty box of code.
"""

import re
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

from bs4 import BeautifulSoup

from faults import report, unreadable

LOADING = "script, img, iframe, source, embed, video, audio, object, link"
LINKS = "stylesheet preload prefetch icon shortcut modulepreload preconnect dns-prefetch manifest"
CSS_ADDRESS = re.compile(r"(?:url\(\s*|@import\s+(?!url\())['\"]?([^'\")\s]+)")


def _read(text):
    """(addresses that a page loads, what is wrong with what it shows)."""
    soup = BeautifulSoup(text, "html.parser")
    loads = []
    for tag in soup.select(LOADING):
        if tag.name != "link" or {*LINKS.split()} & {*tag.get("rel", ())}:
            loads += [tag[name] for name in ("src", "data", "href") if tag.get(name)]
    styles = [tag["style"] for tag in soup.select("[style]")] + [t.text for t in soup("style")]
    loads += [address for style in styles for address in CSS_ADDRESS.findall(style)]
    silent = [tag.get("src") for tag in soup("img") if not tag.get("alt", "").strip()]
    faults = [f"image {image} has no alternative text" for image in silent]
    for tag in soup(["script", "style"]):
        tag.decompose()
    faults += [f"shows {piece!r}" for piece in unreadable(soup.get_text())]
    empty = sum(not tag.get_text(strip=True) for tag in soup("pre"))
    return loads, faults + ["shows an empty box of code"] * empty


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
        loads, faults = _read(path.read_text(encoding="utf8"))
        faults += filter(None, (_load_fault(path, address) for address in loads))
        found += [f"{path.relative_to(site)}: {fault}" for fault in faults]
    for path in sorted(site.rglob("*.css")):
        text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf8"), flags=re.S)
        faults = [_load_fault(path, address) or "" for address in CSS_ADDRESS.findall(text)]
        found += [f"{path.relative_to(site)}: {f}" for f in faults if "elsewhere" in f]
    return found if pages else [f"{site}: holds no page"]


if __name__ == "__main__":
    sys.exit(report(problems, sys.argv[1]))
