"""Previews in a browser, with mouse and keyboard; and the buttons of a page built with an address."""

import json
import shutil
from pathlib import Path

import pytest

from browser import open_page, site_browser
from tables import text

ROOT = Path(__file__).parent.parent
PAGE = text("previews.html")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page of a small site, opened as a file."""
    site = tmp_path_factory.mktemp("site")
    (site / "_static/previews").mkdir(parents=True)
    shutil.copy(ROOT / "_static/previews.js", site / "_static")
    found = json.dumps({"#thm-a": "<div class='proof'><p>All units turn.</p></div>"})
    (site / "_static/previews/page.js").write_text(f"window.bookPreviews = {found};")
    (site / "page.html").write_text(PAGE)
    with site_browser() as running:
        yield open_page(running, site / "page.html")


def test_the_mouse_opens_a_preview_and_escape_closes_it(page):
    link, card = page.get_by_text("Theorem"), page.locator("#book-preview")
    link.hover()
    card.wait_for()
    assert card.inner_text().strip() == "All units turn."
    assert link.get_attribute("aria-describedby") == card.get_attribute("id")
    assert link.get_attribute("title") is None  # or the browser's own tip would lie over it
    card.hover()
    page.wait_for_timeout(400)
    assert card.count() == 1  # the pointer may rest on it
    page.keyboard.press("Escape")
    assert card.count() == 0
    assert link.get_attribute("aria-describedby") is None
    assert link.get_attribute("title") == "native"
    page.mouse.move(0, 800)


def test_the_keyboard_opens_a_preview_and_leaving_closes_it(page):
    card = page.locator("#book-preview")
    page.keyboard.press("Tab")
    card.wait_for()
    page.keyboard.press("Tab")
    card.wait_for(state="detached")
    page.wait_for_timeout(300)
    assert card.count() == 0  # what has no preview shows none


def test_a_link_to_a_claim_opens_it(page):
    assert not page.get_by_text("numbers").is_visible()
    page.evaluate("location.hash = '#claim-x'")
    page.get_by_text("numbers").wait_for()
