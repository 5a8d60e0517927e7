"""Under each figure of the website: the code that made it, its record, and the claims it supports.

`figure_code` finds the code; the links lead to the highlighted sources, to the chapter as a
notebook, to copies of the records beside the pages, and to the ledger. Print has none of this.
"""

import shutil
from pathlib import Path

from docutils import nodes

from figure_code import figure_sources
from paper.claims import read_claims

FOLDER = "records"
LEDGER = "chapters/ledger"


def _link(text, address, **attributes):
    return nodes.reference("", text, refuri=address, internal=True, **attributes)


def _list(links):
    shown = []
    for link in links:
        shown += [nodes.Text(", "), link] if shown else [link]
    return shown


def _code_links(app, docname, functions):
    modules = getattr(app.env, "_viewcode_modules", {})
    for module, name in functions:
        entry = modules.get(module)
        page = app.builder.get_relative_uri(docname, f"_modules/{module.replace('.', '/')}")
        if entry:
            anchor = f"#{name}" if name in entry[2] else ""  # names that the API page documents
            text = f"{module.split('.')[-1]}.{name}"
            yield _link(text, page + anchor, reftitle=f"Source of {module}.{name}")


def line(app, docname, source, claims):
    """The paragraph under a figure, or None if there is nothing to say."""
    up = "../" * docname.count("/")
    code = list(_code_links(app, docname, [*source.drawn_by, *source.computed_by]))
    records = [_link(p.name, f"{up}{FOLDER}/{p.name}") for p in source.records]
    ledger = app.builder.get_relative_uri(docname, LEDGER)
    known = [_link(claim.id, f"{ledger}#claim-{claim.id.replace('/', '-')}") for claim in claims]
    parts = [("code", code), ("record", records), ("in the ledger", known)]
    paragraph = nodes.paragraph("", "", classes=["figure-source"])
    for name, links in parts:
        if links:
            paragraph += nodes.Text((" · " if len(paragraph) else "") + name + ": ")
            paragraph += _list(links)
    return paragraph if len(paragraph) else None


def _claims(app):
    if not hasattr(app.env, "claims_by_figure"):
        path, table = Path(app.srcdir) / "claims.yml", {}
        for claim in read_claims(path) if path.exists() else ():
            for figure in claim.figures:
                table.setdefault(figure, []).append(claim)
        app.env.claims_by_figure = table
    return app.env.claims_by_figure


def _resolved(app, doctree, docname):
    if app.builder.name != "html":
        return
    text = Path(app.env.doc2path(docname)).read_text(encoding="utf8")
    sources = figure_sources(app.srcdir, text) if "{code-cell}" in text else {}
    for figure in doctree.findall(nodes.figure):
        name = next((n for n in figure.get("ids", ()) if n in sources), None)
        caption = next(iter(figure.findall(nodes.caption)), None)
        if name is None or caption is None:
            continue
        paragraph = line(app, docname, sources[name], _claims(app).get(name, ()))
        if paragraph is not None:
            figure += nodes.legend("", paragraph)
            app.env.figure_records = getattr(app.env, "figure_records", set()) | {
                str(p) for p in sources[name].records
            }


def _forget(app, env, docnames):
    if hasattr(env, "claims_by_figure"):
        del env.claims_by_figure


def _copy(app, exception):
    if exception is None and app.builder.name == "html":
        target = Path(app.outdir) / FOLDER
        target.mkdir(exist_ok=True)
        for record in getattr(app.env, "figure_records", ()):
            if Path(record).exists():
                shutil.copyfile(record, target / Path(record).name)


def setup(app):
    """Connect to Sphinx."""
    app.connect("env-before-read-docs", _forget)
    app.connect("doctree-resolved", _resolved)
    app.connect("build-finished", _copy)
    return {"parallel_read_safe": True}
