"""Every page of the built site through axe, light and dark; complain about grave faults.

    python _ext/check_accessibility.py _build/html [name of a page ...]

Grave are violations that axe rates serious or critical. Needs Chromium and `make book`.
"""

import sys
from pathlib import Path

from browser import THEMES, open_page, pages, site_browser

__all__ = ["GRAVE", "violations"]

GRAVE = ("serious", "critical")
OPTIONS = {"resultTypes": ["violations"]}


def page_violations(page):
    """The grave violations of an open page, as (rule, element, what to do)."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, options=OPTIONS).response["violations"]
    return [
        (fault["id"], " ".join(map(str, node["target"])), node.get("failureSummary") or "")
        for fault in found
        if fault["impact"] in GRAVE
        for node in fault["nodes"]
    ]


def violations(site, names=(), themes=THEMES, report=None):
    """(number of pages, faults): a fault is (theme, page, rule, element, what to do).

    names : only pages whose path contains one of these. report : called after each page.
    """
    site, faults = Path(site), []
    chosen = [
        p
        for p in pages(site)
        if not names or any(name in p.relative_to(site).as_posix() for name in names)
    ]
    with site_browser() as browser:
        for path in chosen:
            for theme in themes:
                page = open_page(browser, path, theme, seconds=600)
                found = page_violations(page)
                page.context.close()
                name = path.relative_to(site).as_posix()
                faults += [(theme, name, *fault) for fault in found]
                if report:
                    report(theme, name, found)
    return len(chosen), faults


def main(site, *names):
    """Print the faults; 1 if there is any."""

    def report(theme, name, found):
        print(f"{name} ({theme}): {len(found)}", flush=True)
        for rule, element, advice in found:
            print(f"  {rule}: {element}\n    {advice}", flush=True)

    count, faults = violations(site, names, report=report)
    print(f"{count} pages, {len(faults)} grave violations")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
