"""The built site in headless Chromium: pages, opened as a reader opens them, without a server."""

import shutil
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TYPESET = "() => window.MathJax?.startup?.promise.then(() => true) ?? true"


def chromium(which=shutil.which):
    """The path of an installed Chromium. Raises FileNotFoundError that says what to install."""
    if found := next(filter(None, map(which, PROGRAMS)), None):
        return found
    told = "no Chromium: install it, on Debian or Ubuntu with `apt-get install chromium`"
    raise FileNotFoundError(told)


def pages(site):
    """The pages of a built site, small ones first; a page that only forwards is none.

    Raises FileNotFoundError if nothing is built.
    """
    found = [p for p in site.rglob("*.html") if p.relative_to(site).parts[0] != "_static"]
    found = [p for p in found if 'http-equiv="Refresh"' not in p.read_text(encoding="utf8")[:300]]
    if not found:
        raise FileNotFoundError(f"{site} holds no page: run `make book` first")
    return sorted(found, key=lambda p: (p.stat().st_size, p))


@contextmanager
def site_browser():
    """A running browser."""
    from playwright.sync_api import sync_playwright

    options = {"args": ["--no-sandbox", "--allow-file-access-from-files"]}
    with sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=chromium(), **options)


def open_page(browser, address, theme="light", width=1280, height=900, prepare=None, seconds=120):
    """A page in a context of its own, loaded and with its formulas typeset.

    address : a path or an address. prepare : called with the page before it loads anything.
    """
    options = {"color_scheme": theme, "reduced_motion": "reduce"}
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    for key in ("mode", "theme"):
        context.add_init_script(f"localStorage.setItem('{key}', '{theme}')")
    page = context.new_page()
    page.set_default_timeout(1000 * seconds)
    if prepare is not None:
        prepare(page)
    page.goto(address.resolve().as_uri() if isinstance(address, Path) else address)
    page.evaluate(TYPESET)
    return page
