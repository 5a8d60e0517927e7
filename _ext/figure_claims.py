"""Under each figure of the website: the claims that `claims.yml` says it supports, and their records.

The links lead to the ledger and to copies of the records beside the pages. Print has none of this.
"""

import shutil
from pathlib import Path

from docutils import nodes

from ledger_page import anchor
from paper.claims import read_claims
from paper.ledger import read_ledger

FOLDER, LEDGER = "records", "chapters/ledger"


def _read(app):
    """figure -> [(text, address from the site's root), ...], and the records to copy."""
    root = Path(app.srcdir)
    app.figure_links, app.figure_records = {}, set()
    if not (root / "claims.yml").exists():
        return
    _, measured = read_ledger(root / "results" / "claims.json")
    for claim in read_claims(root / "claims.yml"):
        origin = measured.get(claim.id, {}).get("provenance", {})
        records = [Path(name) for name in origin.get("from_record", ())]
        app.figure_records |= {root / record for record in records}
        links = [(claim.id, f"{app.builder.get_target_uri(LEDGER)}#{anchor(claim)}")]
        links += [(record.name, f"{FOLDER}/{record.name}") for record in records]
        for figure in claim.figures:
            known = app.figure_links.setdefault(figure, [])
            known += [link for link in links if link not in known]


def _resolved(app, doctree, docname):
    if app.builder.name != "html":
        return
    for figure in doctree.findall(nodes.figure):
        links = [link for name in figure["ids"] for link in app.figure_links.get(name, ())]
        if links:
            line = nodes.paragraph("", "In the ledger: ", classes=["figure-source"])
            for i, (text, address) in enumerate(links):
                line += nodes.Text(", " if i else "")
                line += nodes.reference("", text, refuri="../" * docname.count("/") + address)
            figure += nodes.legend("", line)


def _copy(app, exception):
    if exception is None and app.builder.name == "html":
        Path(app.outdir, FOLDER).mkdir(exist_ok=True)
        for record in filter(Path.exists, app.figure_records):
            shutil.copyfile(record, Path(app.outdir, FOLDER, record.name))


def setup(app):
    """Connect to Sphinx."""
    app.connect("builder-inited", _read)
    app.connect("doctree-resolved", _resolved)
    app.connect("build-finished", _copy)
    return {"parallel_read_safe": True}
