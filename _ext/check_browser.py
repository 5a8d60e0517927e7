"""A short visit to the built site in a browser; complain about what a reader would trip over.

    python _ext/check_browser.py _build/html

The site is served from this machine: search reads its pages with requests, which browsers refuse
to files. Formulas are typeset, the live figures answer to the keyboard, search finds, the colour
theme can be switched, and the console stays silent. On every page, formulas and printed output fit
into their boxes at `DESKTOP`; on a phone they and tables scroll in them, never the page.
"""

import sys
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from browser import open_page, pages, site_browser
from faults import report

__all__ = ["problems", "served"]

LANDING, LIVE, FORMULAS = (
    "chapters/index.html",
    "chapters/live.html",
    "chapters/saddles/plateau.html",
)
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SEARCHED = "plateau"

#: In the page: [name, px beyond its box, whether that scrolls, whether it must fit] of what may be wide.
WIDTHS = """
() => {
  document.querySelectorAll("details").forEach((box) => { box.open = true; });
  const texts = new Map(window.MathJax && MathJax.startup
    ? [...MathJax.startup.document.math].map((item) => [item.typesetRoot, item.math]) : []);
  const flow = (node) => getComputedStyle(node).overflowX;
  const around = (node) => flow(node) !== "visible" || !node.parentElement ? node
    : around(node.parentElement);
  const name = (node) => {
    const number = node.closest(".math")?.querySelector(".eqno")?.firstChild.textContent;
    const text = (texts.get(node) || node.innerText).trim().replace(/\\s+/g, " ").slice(0, 60);
    const kind = { PRE: "output", TABLE: "table" }[node.tagName] || "formula";
    return `${kind} ${number || ""} in #${node.closest(":is(.math, .proof, section)[id]")?.id}, "${text}"`;
  };
  return [...document.querySelectorAll("mjx-container, pre, table")].map((node) => {
    const place = node.getBoundingClientRect(), box = around(node);
    const right = Math.max(place.right, place.left + node.scrollWidth);
    return [name(node), Math.round(right - box.getBoundingClientRect().right),
      /auto|scroll/.test(flow(box)), node.matches("mjx-container[display=true], .cell pre")];
  }).filter(([, beyond]) => beyond > 1);
}
"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


@contextmanager
def served(site):
    """The address at which `site` is served while the context lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def _listening(found, name):
    """What to do with a page before it loads: write its complaints into `found`."""

    def prepare(page):
        page.on("pageerror", lambda error: found.append(f"{name}: {error}"))
        page.on("console", lambda m: m.type == "error" and found.append(f"{name}: {m.text}"))
        page.on("requestfailed", lambda r: found.append(f"{name}: {r.url} was not loaded"))

    return prepare


def formula_problems(page):
    """Formulas that were not typeset, or typeset as an error."""
    left = page.locator(".math:not(:has(mjx-container))").count()
    wrong = page.locator("mjx-merror, [data-mml-node=merror]").count()
    found = [f"{left} formulas are not typeset"] if left else []
    found += [f"{wrong} formulas are errors"] if wrong else []
    if not page.locator("mjx-container").count():
        found.append("no formula is there")
    return found


def live_problems(page):
    """Live figures that do not answer to the keyboard."""
    found = []
    box = page.locator("#live-saddles")
    before = box.locator("svg[data-live=loss]").inner_html()
    box.locator("input[data-live=scale]").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(500)
    if len(before) < 200:
        found.append("the live figure is empty")
    if box.locator("svg[data-live=loss]").inner_html() == before:
        found.append("the live figure does not answer to the arrow keys")
    if not box.locator("[data-live=summary]").inner_text().strip():
        found.append("the live figure says nothing")
    return found


def theme_problems(page):
    """A theme button that does not change the colours."""
    shade = "() => getComputedStyle(document.body).backgroundColor"
    seen = {page.evaluate(shade)}
    for _ in range(3):
        page.locator("button.theme-switch-button:visible").first.click()
        page.wait_for_timeout(100)
        seen.add(page.evaluate(shade))
    return [] if len(seen) > 1 else ["the theme button changes nothing"]


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
    return [
        f"{name} is {beyond} px wider than its box"
        for name, beyond, _, whole in page.evaluate(WIDTHS)
        if whole
    ]


def phone_problems(page):
    """On a phone: a page wider than the window, and what is cut or widens it instead of scrolling."""
    page.set_viewport_size(PHONE)
    wide = page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth")
    return ([f"wider than a phone by {wide} px"] if wide > 0 else []) + [
        f"{name} stands out of a phone by {beyond} px"
        for name, beyond, scrolls, _ in page.evaluate(WIDTHS)
        if not scrolls
    ]


def width_problems(page):
    """What is too wide, first as the page is, then on a phone."""
    return box_problems(page) + phone_problems(page)


def problems(site):
    """One sentence for each fault of the built site."""
    site = Path(site)
    if not (site / LANDING).exists():
        return [f"{site / LANDING} is missing: run `make book` first"]
    found = []
    visits = [
        (LANDING, theme_problems),
        (LIVE, live_problems),
        (FORMULAS, formula_problems),
        (f"search.html?q={SEARCHED}", search_problems),
        *(
            (path.relative_to(site).as_posix(), width_problems)
            for path in pages(site)
            if "_modules" not in path.parts
        ),  # source code: no formula, no output
    ]
    with served(site) as address, site_browser() as browser:
        for name, check in visits:
            page = open_page(browser, address + name, prepare=_listening(found, name), **DESKTOP)
            found += [f"{name}: {fault}" for fault in check(page)]
            page.context.close()
    return found


def main(site):
    """Print the faults; 1 if there is any."""
    return report(problems, site)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
