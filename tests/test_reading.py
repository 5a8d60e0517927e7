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
from previews import page_previews, write_previews
from tables import text

ROOT = Path(__file__).parent.parent
PAGE = text("references.html")
OTHER = text("referred.html")
CLAIMS = read_claims(ROOT / "claims.yml")


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
    figure, all_of_them = found["b.html#fig-b"], "".join(found.values())
    assert '"@root@_images/c.svg"' in figure and "code" not in figure
    assert not any(piece in all_of_them for piece in ("<a", " id=", "headerlink"))


def test_a_figure_leads_to_the_claims_that_name_it(monkeypatch):
    entries = [{"id": "saddles/any-loss", "provenance": {"from_record": ["results/deep.nc"]}}]
    ledger = {}, {entry["id"]: entry for entry in entries}
    monkeypatch.setattr(ledger_page, "read_ledger", lambda path: ledger)
    builder = SimpleNamespace(name="html", get_target_uri=lambda docname: f"{docname}.html")
    app = SimpleNamespace(srcdir=ROOT, builder=builder)
    ledger_page.collect(app)
    assert app.figure_links.keys() == {name for claim in CLAIMS for name in claim.figures}
    (claim,) = [claim for claim in CLAIMS if claim.id == "saddles/any-loss"]
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
    known = {claim.id for claim in CLAIMS}
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


def test_the_pdf_is_linked_when_it_is_there(tmp_path):
    landing, made = tmp_path / "html/chapters/index.html", tmp_path / "latex" / site_pages.PDF
    for path in (landing, made):
        path.parent.mkdir(parents=True)
    landing.write_text((ROOT / "chapters/index.md").read_text())
    for pdf, shown in ((None, False), (b"%PDF", True)):
        if pdf:
            made.write_bytes(pdf)
        assert (
            site_pages.place_pdf(tmp_path) is (tmp_path / "html" / site_pages.PDF).exists() is shown
        )
        assert (site_pages.SHOWN in landing.read_text()) is shown
        assert (site_pages.HIDDEN in landing.read_text()) is not shown


def test_ledger_counts_add_up():
    _, records = read_ledger(ROOT / "results/claims.json")
    numbers = [int(n) for n in re.findall(r"\*\*(\d+)", TEXT.counts(judged(CLAIMS, records)))]
    assert numbers[0] == len(CLAIMS) == sum(numbers[1:])
    text = TEXT.overview(judged(CLAIMS, records))
    assert all(text.count(f"<{ledger_page.anchor(claim)}>") == 1 for claim in CLAIMS)


def test_a_thesis_is_judged_by_what_it_prints():
    def word(came, **changes):
        found = {CLAIMS[0].id: {"verdict": came}} if came else {}
        return ledger_page.verdict(replace(CLAIMS[0], **{"status": "derived"} | changes), found)

    assert word("holds") == "true"
    assert word("holds", status="conditional") == "true with a correction"
    assert word("holds-corrected") == "true with a correction"
    assert word("holds-corrected", status="refuted") == word("fails") == "false as printed"
    assert word("fails", thesis="ours") == "fails" and word(None) == "not measured"
