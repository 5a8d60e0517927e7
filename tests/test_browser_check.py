"""The visit to the site in a browser finds what it looks for, and the extra scripts are gone."""

import pytest

import check_browser
import site_pages
from browser import open_page, site_browser

PAGE = "<!doctype html><html><body>{}</body></html>"
FORMULA = """<section id="law"><div class="math"><span class="eqno">(5.3)<a>#</a></span>
<mjx-container display="true" style="display: block; overflow-x: auto"><svg width="{}" height="9"></svg>
</mjx-container></div></section>"""
OUTPUT = """<div class="cell cell_output"><pre style="width: 200px; white-space: {}">REFUSED
</pre></div>""".replace("REFUSED", 60 * "refused ")
TABLE = "<table><tr><td>" + 99 * "wide" + "</table>"


@pytest.fixture(scope="module")
def running():
    with site_browser() as browser:
        yield browser


TYPESET, PHONE = check_browser.formula_problems, check_browser.phone_problems
BOXES = check_browser.box_problems


@pytest.mark.parametrize(
    ("check", "body", "fault"),
    [
        (TYPESET, '<span class="math">x<mjx-container></mjx-container></span>', None),
        (TYPESET, '<span class="math">x</span>', "not typeset"),
        (TYPESET, "<mjx-container></mjx-container><mjx-merror></mjx-merror>", "errors"),
        (TYPESET, "<script>const a = 1;</script><script>const a = 2;</script>", "declared"),
        (PHONE, '<div style="width: 900px">wide</div>', "wider"),
        (PHONE, "<p>text", None),
        (PHONE, FORMULA.format(900), None),  # it scrolls in its box
        (PHONE, FORMULA.format(900).replace("auto", "hidden"), "formula (5.3)"),
        (PHONE, OUTPUT.format("pre"), "wider"),
        (PHONE, TABLE, "wider"),
        (BOXES, FORMULA.format(300), None),
        (BOXES, FORMULA.format(900), "formula (5.3) in #law"),
        (BOXES, "<details>" + FORMULA.format(900) + "</details>", "(5.3)"),
        (BOXES, OUTPUT.format("pre"), "output"),
        (BOXES, OUTPUT.format("pre-wrap"), None),
    ],
)
def test_visits(tmp_path, running, check, body, fault):
    (tmp_path / "page.html").write_text(PAGE.format(body))
    found = []
    options = {"prepare": check_browser._listening(found, "page"), "width": 390, "height": 800}
    found += check(open_page(running, tmp_path / "page.html", **options))
    assert bool(found) is (fault is not None), found
    assert fault is None or fault in " ".join(found)


def test_a_page_says_its_language_and_a_bibliography_is_no_list_without_items():
    for page, language in (("page", "en"), ("chapters/japanese", "ja")):
        context = {"language": "en", "body": '<div role="list" class="citation-list">'}
        site_pages._page(None, page, "page.html", context, None)
        assert context["language"] == language
        assert context["body"] == '<div class="citation-list">'
