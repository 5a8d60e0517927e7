"""The checks that the build runs: offline site, sound PDF, one-sentence complaints, macros."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import check_pdf
import check_site
from latex_style import _macros, first_chapters, part_heading
from site_pages import BUTTONS, theme_options
from small_book import one_page
from tables import table, text

ROOT = Path(__file__).parent.parent


GIVEN = table("build_faults")


def judge(found, fault):
    assert bool(found) is (fault is not None), found
    assert fault is None or fault in found[0]


@pytest.mark.parametrize(("page", "fault"), GIVEN["pages"])
def test_site_check(tmp_path, page, fault):
    (tmp_path / "here.svg").write_text("<svg/>")
    (tmp_path / "index.html").write_text(page)
    judge(check_site.problems(tmp_path), fault)


def test_site_check_reads_style_sheets_and_is_not_content_with_nothing(tmp_path):
    assert check_site.problems(tmp_path) and check_pdf.problems(tmp_path)
    (tmp_path / "index.html").write_text("")
    (tmp_path / "a.css").write_text("/* https://x.org */ @font-face {src: url(https://x.org/f)}")
    assert len(check_site.problems(tmp_path)) == 1


def test_a_page_built_with_the_books_configuration(tmp_path):
    """It loads nothing from elsewhere; its buttons follow the repository's address."""
    site = one_page(tmp_path, text("page.md"), "https://github.com/someone/book")
    assert check_site.problems(site) == []
    page, mathjax = (site / "page.html").read_text(), site / "_static" / "mathjax"
    assert "mathjax/tex-svg.js" in page and (mathjax / "tex-svg.js").stat().st_size > 1e6
    assert len(list(mathjax.rglob("*"))) == 1  # one variant, not 24 MB
    assert not list((ROOT / "_static").glob("*mathjax*"))  # it comes from a package
    name = page.replace("</span>", "").replace('<span class="bibtex-citation">', "")
    assert "荒田 隼輝 (" in name and '"sxx": "\\\\Sigma_{xx}"' in page
    for name in ("_sources/page.ipynb", "_sources/page.md"):
        assert f'href="{name}"' in page and (site / name).exists()
    assert "mybinder.org/v2/gh/someone/book/main" in page
    assert "github.com/someone/book/issues" in page
    without = theme_options({"repository_url": ""})
    assert not any(without[b] for b in BUTTONS) and not without["launch_buttons"]["binderhub_url"]
    assert "colab" not in page and "executablebooks/jupyter-book" not in page


@pytest.mark.parametrize(("source", "fault"), GIVEN["sources"])
def test_pdf_check_of_the_source(source, fault):
    judge(check_pdf.source_problems(source), fault)


@pytest.mark.parametrize(("log", "fault"), GIVEN["logs"])
def test_pdf_check_of_the_log(log, fault):
    judge(check_pdf.log_problems(log), fault)


def test_no_norm_stands_in_a_table_as_bars_that_markdown_takes_for_escaped_ones():
    texts = [path.read_text(encoding="utf8") for path in (ROOT / "chapters").rglob("*.md")]
    assert not [row for t in texts for row in re.findall(r"^[ >]*\|.*", t, re.M) if r"\|" in row]


def test_macros_come_from_one_table():
    config = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["config"]
    table, preamble = config["mathjax3_config"]["tex"]["macros"], _macros(SimpleNamespace(**config))
    assert all(rf"\renewcommand{{\{n}}}{{{body}}}" in preamble for n, body in table.items())


def test_parts_are_numbered_as_on_the_site():
    assert part_heading("Part I: Saddles") == r"\part{Saddles}"
    assert part_heading("Appendices").startswith(r"\part*{Appendices}")
    toc = {"parts": [{"caption": "Part I: A", "chapters": [{"file": "a"}, {"file": "b"}]}]}
    assert first_chapters(toc) == {"a": "Part I: A"}
