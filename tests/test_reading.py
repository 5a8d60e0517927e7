"""What makes the pages pleasant to read: previews, signs, sources of figures, buttons, the PDF's link."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from playwright._impl._driver import compute_driver_executable

import printed_copy
import repository
import signs
from figure_code import figure_sources
from ledger_page import counts, overview
from notebooks import chapter_files
from paper.claims import read_claims
from paper.ledger import read_ledger
from previews import fragment, page_previews, write_previews

ROOT = Path(__file__).parent.parent
PAGE = """<article>
<a class="reference internal" href="#thm-a">Theorem</a> <a class="reference internal" href="b.html#fig-b">Fig.</a>
<a class="reference internal" href="b.html#id1">2020</a> <a class="reference internal" href="#top">Section</a>
<a class="reference internal" href="b.html#lost">lost</a>
<div class="proof theorem" id="thm-a"><p>A <a href="x.html">link</a><a class="headerlink" href="#thm-a">#</a></p></div>
<section id="top"><h2>Section</h2></section></article>"""
OTHER = """<article><figure id="fig-b"><img alt="a" src="../_images/c.svg"/><figcaption><p>Caption</p>
<div class="legend"><p>code</p></div></figcaption></figure>
<div class="citation" id="id1"><span>[1]</span><p>A work.</p></div>
<dl><dt id="word-a">plateau</dt><dd><p>flat</p></dd></dl>
<table><tr id="sign-x"><td><p>X</p></td><td></td><td><p>inputs</p></td></tr></table></article>"""


def soup(text):
    return BeautifulSoup(text, "html.parser")


def test_previews_hold_theorems_figures_and_citations():
    found = page_previews(
        "chapters/a.html", {"chapters/a.html": soup(PAGE), "chapters/b.html": soup(OTHER)}
    )
    assert set(found) == {
        "#thm-a",
        "b.html#fig-b",
        "b.html#id1",
    }  # a section is a page, not a preview
    assert found["b.html#id1"] == "<p>A work.</p>"
    assert '"@root@_images/c.svg"' in found["b.html#fig-b"]
    assert "code" not in found["b.html#fig-b"]
    assert not any(piece in "".join(found.values()) for piece in ("<a", " id=", "headerlink"))


def test_previews_of_signs_and_words():
    page = soup(OTHER)
    assert fragment(page.find(id="sign-x"), "chapters/b.html") == "<p>X · inputs</p>"
    assert "flat" in fragment(page.find(id="word-a"), "chapters/b.html")


def test_previews_are_written_beside_the_pages(tmp_path):
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters/a.html").write_text(PAGE)
    (tmp_path / "chapters/b.html").write_text(OTHER)
    write_previews(tmp_path)
    text = (tmp_path / "_static/previews/chapters/a.js").read_text()
    assert len(json.loads(text.removeprefix("window.bookPreviews = ").rstrip(";\n"))) == 3


def test_the_preview_script_is_sound_and_our_own():
    script = ROOT / "_static/previews.js"
    node = compute_driver_executable()[0]
    assert subprocess.run([node, "--check", str(script)]).returncode == 0
    text = script.read_text()
    assert "http" not in text
    assert "Escape" in text and "aria-describedby" in text


NOTATION = signs.entries((ROOT / "chapters/notation.md").read_text())


def first_chapter_that_uses(entry):
    """The first chapter with a formula that begins with the sign alone, and whether it is linked."""
    for path in chapter_files(ROOT):
        part = signs._part(path.relative_to(ROOT).with_suffix("").as_posix())
        if part is None or entry not in signs.meaning_of(NOTATION, part).values():
            continue
        text = re.sub(
            r"^```\{code-cell\}.*?^```$|^\$\$.*?^\$\$", "", path.read_text(), flags=re.M | re.S
        )
        for formula in re.findall(r"(?<!\$)\$([^$]+)\$(?!\$)", text):
            if any(re.match(re.escape(n) + signs.RELATION, formula.strip()) for n in entry.names):
                return path
    return None


@pytest.mark.parametrize("entry", [e for e in NOTATION if not e.is_word], ids=lambda e: e.anchor)
def test_every_sign_is_used_and_means_one_thing(entry):
    assert first_chapter_that_uses(entry) is not None, f"{entry.names} stands in no chapter"


def test_signs_of_the_notation_page():
    anchors = [entry.anchor for entry in NOTATION]
    assert len(set(anchors)) == len(anchors) >= 34
    saddles, scales = (signs.meaning_of(NOTATION, part) for part in ("saddles", "scales"))
    assert saddles["L"].anchor == "sign-L" and scales["L"].anchor == "sign-scales-L"
    assert r"\sxx" in scales and r"\epsilon" not in scales
    assert "L" not in signs.meaning_of(NOTATION, "together")  # loss there, depth here: no guess


CHAPTER = """
```{code-cell} ipython3
from paper.saddles.deep.schedules import from_dataset
from paper.records import read_record
from paper.figures.deep import plot_escape_times
found = from_dataset(read_record("deep"))
```
```{code-cell} ipython3
---
mystnb:
  figure: {name: fig-x, caption: x}
---
plot_escape_times(found)
plot_escape_times(unknown)
```
"""


def test_a_figure_knows_its_code_and_its_record():
    source = figure_sources(ROOT, CHAPTER)["fig-x"]
    assert source.drawn_by == [("paper.figures.deep", "plot_escape_times")]
    assert source.computed_by == [("paper.saddles.deep.schedules", "from_dataset")]
    assert [path.name for path in source.records] == ["deep.nc"]


def test_every_figure_of_the_book_has_a_source():
    for path in chapter_files(ROOT):
        for name, source in figure_sources(ROOT, path.read_text()).items():
            assert source.drawn_by, f"{name}: drawn by no function of the package"


def test_buttons_follow_the_repositorys_address():
    off = repository.theme_options({"repository_url": "", "logo": 1})
    on = repository.theme_options({"repository_url": "https://github.com/someone/book"})
    assert (
        not any(off[b] for b in repository.BUTTONS) and not off["launch_buttons"]["binderhub_url"]
    )
    assert all(on[b] for b in repository.BUTTONS) and on["launch_buttons"]["binderhub_url"]
    assert off["logo"] == 1


def test_the_address_stands_in_one_place():
    config = (ROOT / "_config.yml").read_text()
    assert len(re.findall(r"^\s*url:", config, re.M)) == 1
    assert "use_repository_button" not in config and "binderhub" not in config


def test_the_pdf_is_linked_when_it_is_there(tmp_path):
    landing = tmp_path / "html/chapters/index.html"
    landing.parent.mkdir(parents=True)
    source = (ROOT / "chapters/index.md").read_text()
    assert printed_copy.HIDDEN in source
    landing.write_text(source)
    assert not printed_copy.place(tmp_path) and landing.read_text() == source
    (tmp_path / "latex").mkdir()
    (tmp_path / "latex" / printed_copy.NAME).write_bytes(b"%PDF")
    assert printed_copy.place(tmp_path) and printed_copy.SHOWN in landing.read_text()
    assert (tmp_path / "html" / printed_copy.NAME).exists()
    (tmp_path / "html" / printed_copy.NAME).unlink()
    (tmp_path / "latex" / printed_copy.NAME).unlink()
    assert not printed_copy.place(tmp_path) and landing.read_text() == source


def test_ledger_counts_add_up():
    claims = read_claims(ROOT / "claims.yml")
    _, records = read_ledger(ROOT / "results/claims.json")
    numbers = [int(n) for n in re.findall(r"\*\*(\d+)", counts(claims, records))]
    assert numbers[0] == len(claims) == sum(numbers[1:])
    text = overview(claims, records)
    assert all(text.count(f"`{claim.id} <") == 1 for claim in claims)


def test_each_part_has_margin_notes():
    for part in ("saddles", "scales", "together"):
        notes = sum(
            p.read_text().count("```{margin}") for p in (ROOT / "chapters" / part).glob("*.md")
        )
        assert notes >= 3
