"""A short visit to the built site in a browser; complain about what a reader would trip over.

    python _ext/check_browser.py _build/html

The browser gets the files of the site under the address of a server that there is not: search reads
its pages with requests, which browsers refuse to files. Formulas are typeset, the live figures answer to the keyboard, search finds, and the console stays silent. On every page, formulas and printed output fit
into their boxes at `DESKTOP`; on a phone they and tables scroll in them, never the page.
"""

import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

from browser import open_page, pages, site_browser
from faults import report

LANDING, FORMULAS = "chapters/index.html", "chapters/saddles/plateau.html"
LIVE = ["saddles/saddle-to-saddle", "saddles/anisotropy", "saddles/efficient-algorithm"]
LIVE += ["index", "together/one-axis"]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SEARCHED, ADDRESS = "plateau", "http://book.invalid/"

WIDTHS = Path(__file__).with_name("widths.js").read_text(encoding="utf8")


def _served(site):
    """What answers requests for `ADDRESS` with the files of a site."""

    def answer(route):
        file = site / unquote(urlparse(route.request.url).path)[1:]
        route.fulfill(path=file) if file.is_file() else route.fulfill(status=404)

    return answer


def _listening(found, name, site=None):
    """What to do with a page before it loads: write its complaints into `found`; serve the site."""

    def prepare(page):
        if site is not None:
            page.route(f"{ADDRESS}**", _served(site))
        page.on("pageerror", lambda error: found.append(f"{name}: {error}"))
        page.on("console", lambda m: m.type == "error" and found.append(f"{name}: {m.text}"))
        page.on("requestfailed", lambda r: found.append(f"{name}: {r.url} was not loaded"))

    return prepare


def formula_problems(page):
    """Formulas that were not typeset, or typeset as an error."""
    left = page.locator(".math:not(:has(mjx-container))").count()
    wrong = page.locator("mjx-merror, [data-mml-node=merror]").count()
    none = not page.locator("mjx-container").count()
    told = {f"{left} formulas are not typeset": left, f"{wrong} formulas are errors": wrong}
    return [fault for fault, holds in {**told, "no formula is there": none}.items() if holds]


def live_problems(page):
    """Live figures that do not answer to the keyboard."""
    box = page.locator(".live[data-figure]")
    before = box.locator("svg").first.inner_html()
    box.locator("input").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(500)
    same = box.locator("svg").first.inner_html() == before
    told = {"is empty": len(before) < 200, "does not answer to the arrow keys": same}
    told["says nothing"] = not box.locator("[data-live=summary]").inner_text().strip()
    return [f"the live figure {fault}" for fault, holds in told.items() if holds]


def search_problems(page):
    """A search that finds nothing."""
    try:
        page.locator("#search-results li a").first.wait_for(timeout=20_000)
    except Exception:
        return [f"search for {SEARCHED!r} finds nothing"]
    page.wait_for_load_state("networkidle")
    return []


def box_problems(page):
    """Formulas and printed output wider than their boxes."""
    wide = [(name, beyond) for name, beyond, _, whole in page.evaluate(WIDTHS) if whole]
    return [f"{name} is {beyond} px wider than its box" for name, beyond in wide]


def phone_problems(page):
    """On a phone: a page wider than the window, and what is cut or widens it instead of scrolling."""
    page.set_viewport_size(PHONE)
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    cut = [(name, beyond) for name, beyond, scrolls, _ in page.evaluate(WIDTHS) if not scrolls]
    found = [f"wider than a phone by {wide} px"] if wide > 0 else []
    return found + [f"{name} stands out of a phone by {beyond} px" for name, beyond in cut]


def problems(site):
    """One sentence for each fault of the built site."""
    site, found = Path(site), []
    if not (site / LANDING).exists():
        return [f"{site / LANDING} is missing: run `make book` first"]
    visits = [
        *((f"chapters/{name}.html", live_problems) for name in LIVE),
        (FORMULAS, formula_problems),
        (f"search.html?q={SEARCHED}", search_problems),
    ]
    # source code has neither formula nor output
    named = [p.relative_to(site).as_posix() for p in pages(site) if "_modules" not in p.parts]
    visits += [(name, lambda page: box_problems(page) + phone_problems(page)) for name in named]
    with site_browser() as browser:
        for name, check in visits:
            prepare = _listening(found, name, site)
            page = open_page(browser, ADDRESS + name, prepare=prepare, **DESKTOP)
            found += [f"{name}: {fault}" for fault in check(page)]
            page.context.close()
    return found


if __name__ == "__main__":
    sys.exit(report(problems, sys.argv[1]))
