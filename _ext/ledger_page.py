"""The pages of the ledger and of reproducibility: directives that render what files record.

```{ledger-counts}         one sentence: how many claims came out how
```{ledger-summary}        counts by source and verdict
```{ledger-overview}       links to all claims, by verdict
```{locked-versions}      the versions of the main packages, from requirements.lock
```{audit-results}        what the slow checks of `make audit` counted when they last ran
```{ledger-claims} WHOSE   one entry per claim: of a thesis (`000`, `002`), or of this book's part
                           (`saddles`, ...; `others`: of parts that have no section of their own)

On the website a claim opens to its numbers; in print each of these is a table. A claim's id in the
text leads to its entry. Under each figure of the website stand the claims that `claims.yml` says it
supports, and the records they were measured from: links to the ledger and to copies beside the pages.
"""

import json
import shutil
from pathlib import Path
from statistics import median_low

from docutils import nodes
from jinja2 import Environment, FileSystemLoader
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

from labels import chapter_texts, labels
from paper.claims import read_claims
from paper.ledger import read_ledger

FOLDER, LEDGER = "records", "chapters/ledger"
#: Verdicts on statements of a thesis.
PRINTED = ("true", "true with a correction", "false as printed")
WINGS = ("saddles", "scales", "together", "kernels")


def number(value):
    """A number as a reader wants it: integers whole, others with four digits."""
    value = float(value)
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    if value and not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.3e}".split("e")
        factor = "" if float(mantissa) == 1 else rf"{float(mantissa):g} \times "
        return rf"${factor}10^{{{int(exponent)}}}$"
    return f"{value:.4g}"


def numbers(value):
    """A number, or a list of them: all when few, else their range."""
    if value is None:
        return "–"
    if not isinstance(value, list):
        return number(value)
    if len(set(value)) == 1 < len(value):
        return f"{number(value[0])} ({len(value)} times)"
    if len(value) <= 4:
        return ", ".join(map(number, value)) or "–"
    low, middle, high = (number(f(value)) for f in (min, median_low, max))
    return f"{low} to {high}, median {middle} ({len(value)} values)"


def verdict(claim, records):
    """The verdict in words, from the recorded one: of a thesis's sentence, or of our own result.

    A sentence of a thesis is *true with a correction* if it holds in another form or under a
    condition that it does not name, *false as printed* if it is refuted.
    """
    came = records.get(claim.id, {}).get("verdict", "not measured")
    if came == "not measured":
        return came
    if claim.thesis == "ours":
        return "holds in corrected form" if came == "holds-corrected" else came
    if came == "fails" or claim.status == "refuted":
        return PRINTED[2]
    return PRINTED[came == "holds-corrected" or claim.status == "conditional"]


def title(claim):
    """The claim's name as words."""
    return claim.id.split("/")[1].replace("-", " ").capitalize()


def judged(claims, records):
    """Each claim with its verdict in words."""
    return [(claim, verdict(claim, records)) for claim in claims]


def anchor(claim):
    """The label of a claim on the ledger page."""
    return "claim-" + claim.id.replace("/", "-")


def listed(claim, section):
    """Whether a claim belongs in a section: a thesis's number, or a wing for our own results."""
    wing = next((wing for wing in WINGS if claim.id.startswith(f"{wing}/")), "others")
    return section == (wing if claim.thesis == "ours" else claim.thesis)


TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True
)
TEMPLATES.globals |= {"title": title, "anchor": anchor, "numbers": numbers, "json": json.loads}
#: The page's texts in Markdown, functions of claims with their verdicts.
TEXT = TEMPLATES.get_template("ledger.md.jinja").module
SHOWN = {f"ledger-{name}": getattr(TEXT, name) for name in ("summary", "counts", "overview")}
#: Directives that show a file alone.
FROM_FILES = {
    "locked-versions": (TEXT.versions, "requirements.lock"),
    "audit-results": (TEXT.audit, "results/audit.json"),
}


class Ledger(SphinxDirective):
    """One of the directives above."""

    optional_arguments = 1

    def run(self):
        root = Path(self.env.srcdir)
        render, *files = FROM_FILES.get(self.name, (None, "claims.yml", "results/claims.json"))
        files = [root / name for name in files]
        for file in files:
            self.env.note_dependency(str(file))
        if render:
            return self.parse_text_to_nodes(render(files[0].read_text()))
        claims, (_, records) = read_claims(files[0]), read_ledger(files[1])
        if self.name != "ledger-claims":
            return self.parse_text_to_nodes(SHOWN[self.name](judged(claims, records)))
        roles = labels(chapter_texts(root).values())
        shown = [
            (claim, came, records.get(claim.id, {}), roles.get(claim.label, "ref"))
            for claim, came in judged(claims, records)
            if listed(claim, self.arguments[0])
        ]
        texts = {"not latex": TEXT.opened, "latex": TEXT.printed}
        parsed = {e: self.parse_text_to_nodes(f(shown, self.env.docname)) for e, f in texts.items()}
        return [addnodes.only("", *children, expr=e) for e, children in parsed.items()]


def collect(app):
    """figure -> [(text, address from the site's root), ...], and the records to copy."""
    root = Path(app.srcdir)
    claims = read_claims(root / "claims.yml") if (root / "claims.yml").exists() else []
    app.figure_links, app.figure_records = {}, set()
    app.claim_ids = {claim.id for claim in claims}
    _, measured = read_ledger(root / "results" / "claims.json")
    for claim in claims if app.builder.name == "html" else ():  # print has no links to pages
        origin = measured.get(claim.id, {}).get("provenance", {})
        records = [Path(name) for name in origin.get("from_record", ())]
        app.figure_records |= {root / record for record in records}
        links = [(claim.id, f"{app.builder.get_target_uri(LEDGER)}#{anchor(claim)}")]
        links += [(record.name, f"{FOLDER}/{record.name}") for record in records]
        for figure in claim.figures:
            known = app.figure_links.setdefault(figure, [])
            known += [link for link in links if link not in known]


def _under_figures(app, doctree, docname):
    if app.builder.name != "html":
        return
    for figure in doctree.findall(nodes.figure):
        links = [link for name in figure["ids"] for link in app.figure_links.get(name, ())]
        if links:
            line = nodes.paragraph("", "In the ledger: ", classes=["figure-source"])
            for i, (text, address) in enumerate(links):
                line += nodes.Text(", " if i else "")
                place = "../" * docname.count("/") + address
                line += nodes.reference("", text, refuri=place, internal=True)
            figure += nodes.legend("", line)


def _ids_as_links(app, doctree):
    """A claim's id in the text becomes a link to its entry."""
    for literal in list(doctree.findall(nodes.literal)):
        target = "claim-" + literal.astext().replace("/", "-")
        known = literal.astext() in app.claim_ids and app.env.docname != LEDGER
        if known and not isinstance(literal.parent, nodes.reference | addnodes.pending_xref):
            told = {"refdomain": "std", "reftype": "ref", "refexplicit": True, "refwarn": True}
            link = addnodes.pending_xref("", **told, reftarget=target, refdoc=app.env.docname)
            literal.replace_self(link)
            link += literal


def _copy_records(app, exception):
    if exception is None and app.builder.name == "html":
        Path(app.outdir, FOLDER).mkdir(exist_ok=True)
        for record in filter(Path.exists, app.figure_records):
            shutil.copyfile(record, Path(app.outdir, FOLDER, record.name))


def setup(app):
    """Register the directives, connect to Sphinx."""
    for name in (*SHOWN, *FROM_FILES, "ledger-claims"):
        app.add_directive(name, Ledger)
    app.connect("builder-inited", collect)
    app.connect("doctree-read", _ids_as_links)
    app.connect("doctree-resolved", _under_figures)
    app.connect("build-finished", _copy_records)
    return {"parallel_read_safe": True}
