"""The PDF for screen readers: tagged, with outline, language, headings and alternative texts."""

import pytest

import tagged_pdf
from browser import open_page, site_browser
from tables import text

PAGE = text("print.html")


@pytest.fixture
def site(tmp_path):
    (tmp_path / "chapters").mkdir()
    page = tmp_path / tagged_pdf.SINGLE
    page.write_text(PAGE.format("<mjx-container>x</mjx-container>"), encoding="utf8")
    return tmp_path


def test_the_book_is_tagged_and_a_formula_that_is_not_typeset_is_a_fault(site):
    assert tagged_pdf.print_book(site, site / "out" / "book.pdf") == []
    (site / tagged_pdf.SINGLE).write_text(PAGE.format("x"), encoding="utf8")
    assert any("not typeset" in f for f in tagged_pdf.print_book(site, site / "book.pdf"))


def test_an_untagged_file_is_found_out(tmp_path):
    (tmp_path / "page.html").write_text("<p>text")
    with site_browser() as browser:
        page = open_page(browser, tmp_path / "page.html")
        found = tagged_pdf.file_problems(page.pdf(tagged=False, outline=False))
    assert any("tagged" in fault for fault in found) and any("outline" in fault for fault in found)


def test_title_contents_and_parts_are_added_and_hidden_text_is_shown(site):
    with site_browser() as browser:
        page = open_page(browser, tagged_pdf.at_the_root(site))
        page.evaluate(tagged_pdf.ARRANGE, ["subtitle", "author", ["Part I: First"]])
        contents = page.locator(".book-contents a").all_inner_texts()
        assert contents == ["Part I: First", "1. One", "1.1. Summary"]
        links = page.locator("a").evaluate_all("all => all.map((a) => a.getAttribute('href'))")
        assert links[-1] == "#one" and len(set(links[:-1])) == 3
        assert all(page.locator(link).count() == 1 for link in links)
        assert page.locator("details[open]").count() == 1
