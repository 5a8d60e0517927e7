"""What makes the pages pleasant to read: previews, claims under figures, buttons, the PDF's link."""

import json
import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

from bs4 import BeautifulSoup
from docutils import nodes
from sphinx import addnodes

import api_page
import ledger_page
import site_pages
from ledger_page import TEXT, judged
from paper.claims import read_claims
from paper.ledger import read_ledger
from previews import fragment, page_previews, write_previews
from tables import text

ROOT = Path(__file__).parent.parent
PAGE = text("references.html")
OTHER = text("referred.html")


def soup(text):
    return BeautifulSoup(text, "html.parser")


def test_previews_hold_theorems_figures_and_citations(tmp_path):
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters/a.html").write_text(PAGE)
    (tmp_path / "chapters/b.html").write_text(OTHER)
    write_previews(tmp_path)
    text = (tmp_path / "_static/previews/chapters/a.js").read_text()
    assert len(json.loads(text.removeprefix("window.bookPreviews = ").rstrip(";\n"))) == 3
    pages = {"chapters/a.html": soup(PAGE), "chapters/b.html": soup(OTHER)}
    found = page_previews("chapters/a.html", pages)
    # A section is a page, not a preview.
    assert set(found) == {"#thm-a", "b.html#fig-b", "b.html#id1"}
    assert found["b.html#id1"] == "<p>A work.</p>"
    assert "flat" in fragment(soup(OTHER).find(id="word-a"), "chapters/b.html")
    assert '"@root@_images/c.svg"' in found["b.html#fig-b"]
    assert "code" not in found["b.html#fig-b"]
    assert not any(piece in "".join(found.values()) for piece in ("<a", " id=", "headerlink"))


def test_a_figure_leads_to_the_claims_that_name_it(monkeypatch):
    entries = [{"id": "saddles/any-loss", "provenance": {"from_record": ["results/deep.nc"]}}]
    ledger = {}, {entry["id"]: entry for entry in entries}
    monkeypatch.setattr(ledger_page, "read_ledger", lambda path: ledger)
    builder = SimpleNamespace(name="html", get_target_uri=lambda docname: f"{docname}.html")
    app = SimpleNamespace(srcdir=ROOT, builder=builder)
    ledger_page.collect(app)
    claims = read_claims(ROOT / "claims.yml")
    assert app.figure_links.keys() == {name for claim in claims for name in claim.figures}
    (claim,) = [claim for claim in claims if claim.id == "saddles/any-loss"]
    links = app.figure_links[claim.figures[0]]
    assert ("saddles/any-loss", "chapters/ledger.html#claim-saddles-any-loss") in links
    assert ("deep.nc", "records/deep.nc") in links and app.figure_records == {
        ROOT / "results/deep.nc"
    }


def test_a_claims_id_in_the_text_leads_to_its_entry():
    known, other = nodes.literal("", "saddles/any-loss"), nodes.literal("", "saddles/theory")
    page = nodes.paragraph("", "", known, other)
    app = SimpleNamespace(claim_ids={"saddles/any-loss"}, env=SimpleNamespace(docname="chapters/a"))
    ledger_page._ids_as_links(app, page)
    (link,) = page.findall(addnodes.pending_xref)
    assert link["reftarget"] == "claim-saddles-any-loss" and link.astext() == "saddles/any-loss"


def test_no_id_in_the_text_is_out_of_date():
    known = {claim.id for claim in read_claims(ROOT / "claims.yml")}
    texts = "".join(path.read_text() for path in ROOT.glob("chapters/**/*.md"))
    assert set(re.findall(r"`((?:saddles|scales|together|kernels)/[a-z0-9-]+)`", texts)) <= known


def test_the_api_has_a_page_for_each_package_and_module(tmp_path):
    stale = tmp_path / "api" / "modules" / "learning_dynamics.gone.md"
    stale.parent.mkdir(parents=True)
    stale.touch()
    api_page._write(SimpleNamespace(srcdir=tmp_path), None)
    pages = {
        p.relative_to(tmp_path / "api").as_posix(): p.read_text() for p in tmp_path.rglob("*.md")
    }
    assert "modules/learning_dynamics.losses.md" in pages and not stale.exists()
    for wing in ("saddles", "scales", "data"):
        page = pages[f"packages/learning_dynamics.{wing}.md"]
        assert all(name in page for name in import_module(f"learning_dynamics.{wing}").__all__)
    assert not any("paper" in name or ">>>" in pages[name] for name in pages)


def test_docstrings_are_shown_as_written():
    text = "Says `what` it does, |x|_2.\n\nname : meaning\nother : of `it`\n\nMore prose."
    shown = "Says \\ ``what``\\  it does, \\|x\\|\\_2.||::||   name : meaning|   other : of `it`||More prose.|"
    assert "|".join(api_page.render(text.split("\n"))).replace("\\|", "@") == shown.replace(
        "\\|", "@"
    )


def test_the_pdf_is_linked_when_it_is_there(tmp_path):
    landing = tmp_path / "html/chapters/index.html"
    landing.parent.mkdir(parents=True)
    source = (ROOT / "chapters/index.md").read_text()
    assert site_pages.HIDDEN in source
    landing.write_text(source)
    assert not site_pages.place_pdf(tmp_path) and landing.read_text() == source
    (tmp_path / "latex").mkdir()
    (tmp_path / "latex" / site_pages.PDF).write_bytes(b"%PDF")
    assert site_pages.place_pdf(tmp_path) and site_pages.SHOWN in landing.read_text()
    assert (tmp_path / "html" / site_pages.PDF).exists()
    (tmp_path / "html" / site_pages.PDF).unlink()
    (tmp_path / "latex" / site_pages.PDF).unlink()
    assert not site_pages.place_pdf(tmp_path) and landing.read_text() == source


def test_ledger_counts_add_up():
    claims = read_claims(ROOT / "claims.yml")
    _, records = read_ledger(ROOT / "results/claims.json")
    numbers = [int(n) for n in re.findall(r"\*\*(\d+)", TEXT.counts(judged(claims, records)))]
    assert numbers[0] == len(claims) == sum(numbers[1:])
    text = TEXT.overview(judged(claims, records))
    assert all(text.count(f"<{ledger_page.anchor(claim)}>") == 1 for claim in claims)


def test_a_thesis_is_judged_by_what_it_prints():
    claim = read_claims(ROOT / "claims.yml")[0]
    kinds = {("holds", "derived"): "true", ("holds", "conditional"): "true with a correction"}
    kinds |= {("holds-corrected", "derived"): "true with a correction"}
    kinds |= {
        ("holds-corrected", "refuted"): "false as printed",
        ("fails", "derived"): "false as printed",
    }
    for (came, status), told in kinds.items():
        assert (
            ledger_page.verdict(replace(claim, status=status), {claim.id: {"verdict": came}})
            == told
        )
    own = replace(claim, thesis="ours")
    assert ledger_page.verdict(own, {claim.id: {"verdict": "fails"}}) == "fails"
    assert ledger_page.verdict(claim, {}) == "not measured"
