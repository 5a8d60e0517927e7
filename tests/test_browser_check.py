"""The visit to the site in a browser finds what it looks for, and the extra scripts are gone."""

import re
from types import SimpleNamespace

import pytest

import check_browser
import site_pages
from browser import open_page, site_browser

PAGE = "<!doctype html><html><body>{}</body></html>"
FORMULA = """<section id="law"><div class="math"><span class="eqno">(5.3)<a>#</a></span>
<mjx-container display="true" style="display: block; overflow-x: auto"><svg width="{}" height="9"></svg>
</mjx-container></div></section>"""
OUTPUT = (
    '<div class="cell cell_output"><pre style="width: 200px; white-space: {}">'
    + 60 * "refused "
    + "</pre></div>"
)


def visit(tmp_path, body, check, **size):
    (tmp_path / "page.html").write_text(PAGE.format(body))
    with site_browser() as running:
        found = []
        page = open_page(
            running, tmp_path / "page.html", prepare=check_browser._listening(found, "page"), **size
        )
        return check(page) + found


@pytest.mark.parametrize(
    ("body", "check", "fault"),
    [
        (
            '<span class="math">x<mjx-container></mjx-container></span>',
            check_browser.formula_problems,
            None,
        ),
        ('<span class="math">x</span>', check_browser.formula_problems, "not typeset"),
        (
            "<mjx-container></mjx-container><mjx-merror></mjx-merror>",
            check_browser.formula_problems,
            "errors",
        ),
        ("<script>const a = 1;</script><script>const a = 2;</script>", lambda page: [], "declared"),
        ('<div style="width: 900px">wide</div>', check_browser.phone_problems, "wider"),
        ("<p>text", check_browser.phone_problems, None),
        (FORMULA.format(900), check_browser.phone_problems, None),  # it scrolls in its box
        (
            FORMULA.format(900).replace("auto", "hidden"),
            check_browser.phone_problems,
            "formula (5.3)",
        ),
        (OUTPUT.format("pre"), check_browser.phone_problems, "wider"),
        ("<table><tr><td>" + 99 * "wide" + "</table>", check_browser.phone_problems, "wider"),
        (FORMULA.format(300), check_browser.box_problems, None),
        (FORMULA.format(900), check_browser.box_problems, "formula (5.3) in #law"),
        ("<details>" + FORMULA.format(900) + "</details>", check_browser.box_problems, "(5.3)"),
        (OUTPUT.format("pre"), check_browser.box_problems, "output"),
        (OUTPUT.format("pre-wrap"), check_browser.box_problems, None),
    ],
)
def test_visits(tmp_path, body, check, fault):
    found = visit(tmp_path, body, check, width=390, height=800)
    assert bool(found) is (fault is not None), found
    assert fault is None or fault in found[0]


def test_the_fault_of_a_wide_formula_says_by_how_many_pixels(tmp_path):
    (fault,) = visit(tmp_path, FORMULA.format(1500), check_browser.box_problems)
    assert int(re.search(r"is (\d+) px wider", fault)[1]) == 1500 - (
        1280 - 2 * 8
    )  # the body's margins


def test_a_missing_site_says_how_to_build_it(tmp_path):
    assert "make book" in check_browser.problems(tmp_path)[0]


def test_scripts_that_nothing_uses_are_left_out_and_none_comes_twice():
    def script(filename=None, body=None):
        return SimpleNamespace(filename=filename, attributes={"body": body})

    needed = site_pages.needed(
        [
            script(body="const THEBE_JS_URL = 1"),
            script("sphinx-thebe.js"),
            script("a.js"),
            script(body="let b = 1"),
            script("a.js"),
            script(body="let c = 1"),
        ]
    )
    assert [(s.filename, s.attributes["body"]) for s in needed] == [
        ("a.js", None),
        (None, "let b = 1"),
        (None, "let c = 1"),
    ]


def test_a_bibliography_is_no_list_without_items():
    context = {"body": '<div role="list" class="citation-list">'}
    site_pages._page(None, "page", "page.html", context, None)
    assert context["body"] == '<div class="citation-list">' and context["default_mode"] == "auto"
