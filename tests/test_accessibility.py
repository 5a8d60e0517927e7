"""Every built page, light and dark, through axe without grave faults; part of `make audit`."""

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

import browser
from audit_record import note

SITE = Path(__file__).parent.parent / "_build" / "html"
GRAVE = ("serious", "critical")


def violations(site, themes=("light", "dark")):
    """(number of pages, faults): a fault is (theme, page, rule, element)."""
    faults, chosen = [], browser.pages(site)
    with browser.site_browser() as running:
        for path, theme in ((path, theme) for path in chosen for theme in themes):
            page = browser.open_page(running, path, theme, seconds=600)
            found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
            page.context.close()
            faults += [
                (theme, path.name, fault["id"], " ".join(map(str, node["target"])))
                for fault in found
                if fault["impact"] in GRAVE
                for node in fault["nodes"]
            ]
    return len(chosen), faults


@pytest.mark.audit
def test_no_page_has_a_grave_violation():
    count, faults = violations(SITE)
    note("accessibility", {"pages": count, "themes": 2, "grave violations": len(faults)})
    assert not faults, "\n".join(" | ".join(fault) for fault in faults[:40])


def test_a_page_with_a_fault_is_found_out(tmp_path):
    forwards = '<meta http-equiv="Refresh" content="0; url=a.html" />'  # not visited
    (tmp_path / "index.html").write_text(forwards)
    good = "<!doctype html><html lang=en><title>t</title><main><h1>t</h1><p>text</p></main></html>"
    (tmp_path / "good.html").write_text(good)
    bad = good.replace("<p>text", '<img src="x.png"><p style="color: #ccc; background: #fff">text')
    (tmp_path / "bad.html").write_text(bad)
    count, faults = violations(tmp_path, themes=("light",))
    assert count == 2
    assert {fault[1] for fault in faults} == {"bad.html"}
    assert {fault[2] for fault in faults} == {"image-alt", "color-contrast"}
