"""The ledger page: directives that render claims.yml and results/claims.json.

```{ledger-counts}         one sentence: how many claims came out how
```{ledger-summary}        counts by status and verdict
```{ledger-overview}       links to all claims, by verdict
```{ledger-claims} WING    one entry per claim of that wing, with its measured numbers;
                           WING `others`: of wings that have no section of their own

Under each figure of the website stand the claims that `claims.yml` says it supports, and the records
they were measured from: links to the ledger and to copies beside the pages. Print has none of this.
"""

import shutil
from pathlib import Path
from statistics import median_low

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective
from tabulate import tabulate

from labels import chapter_texts, labels
from paper.claims import STATUSES, read_claims
from paper.ledger import read_ledger

FOLDER, LEDGER = "records", "chapters/ledger"
VERDICTS = ("holds", "holds-corrected", "fails", "not measured")
WINGS = ("saddles", "scales", "together", "kernels")
TOOLS = ("python", "torch", "numpy")
WHOSE = {"000": "saddles thesis", "002": "scales thesis", "ours": "this book"}


def number(value):
    """A number as a reader wants it: integers whole, others with four digits."""
    value = float(value)
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    if value and not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.3e}".split("e")
        return rf"${float(mantissa):g} \times 10^{{{int(exponent)}}}$"
    return f"{value:.4g}"


def numbers(value):
    """A number, or a list of them: all when few, else their range."""
    if value is None:
        return "–"
    if not isinstance(value, list):
        return number(value)
    flat = [x for item in value for x in (item if isinstance(item, list) else [item])]
    if len(set(flat)) == 1 < len(flat):
        return f"{number(flat[0])} ({len(flat)} times)"
    if len(flat) <= 4:
        return ", ".join(map(number, flat)) or "–"
    low, high = min(flat), max(flat)
    middle = median_low(flat)
    return f"{number(low)} to {number(high)}, median {number(middle)} ({len(flat)} values)"


def wing(claim):
    """The part of the id before the slash."""
    return claim.id.split("/")[0]


def verdict(claim, records):
    """The recorded verdict of a claim."""
    return records.get(claim.id, {}).get("verdict", "not measured")


def summary(claims, records):
    """Markdown: how many claims of each status came out how."""
    rows = [["status", *VERDICTS, "all"]]
    for status in (*STATUSES, "**all**"):
        own = [c for c in claims if status in (c.status, "**all**")]
        verdicts = [verdict(c, records) for c in own]
        rows.append([status, *(str(verdicts.count(v)) for v in VERDICTS), str(len(own))])
    return table(rows)


def counts(claims, records):
    """Markdown: one sentence that says how the claims came out."""
    verdicts = [verdict(claim, records) for claim in claims]
    words = ("hold", "hold only in corrected form", "fail", "are not measured yet")
    told = zip(VERDICTS, words, strict=True)
    parts = [f"**{verdicts.count(v)}** {how}" for v, how in told if v in verdicts]
    return (
        f"**{len(claims)} claims**, each tested by a run that could have refuted it: "
        f"{', '.join(parts)} ({{ref}}`the ledger <ledger>`)."
    )


def table(rows):
    """Markdown: a table whose first row is the head."""
    return tabulate(rows, headers="firstrow", tablefmt="github", disable_numparse=True)


def link(label, roles):
    """Markdown: a link to a label of any kind."""
    role = roles.get(label, "ref")
    return f"{{ref}}`the text <{label}>`" if role == "ref" else f"{{{role}}}`{label}`"


def facts(claim, found, roles):
    """Markdown: the numbers of a claim, where it is stated and what would refute it."""
    seeds, origin = found.get("seeds") or [], found.get("provenance", {})
    figures = "".join(f"; {{numref}}`{name}`" for name in claim.figures)
    stored = ", ".join(f"`{name}`" for name in origin.get("from_record", ()))
    known = {
        "claimed by": WHOSE[claim.thesis],
        **{name: numbers(found.get(name)) for name in ("measured", "predicted", "tolerance")},
        "runs": f"{len(seeds)} seeds" if seeds else "deterministic",
        "range": claim.range,
        "refuted by": claim.refuted_by,
        "it holds if": f"`{claim.predicate.strip()}`",
        "as printed, it would need": claim.printed and f"`{claim.printed.strip()}`",
        "see": link(claim.label, roles) + figures,
        "tests": ", ".join(f"`{name.removeprefix('tests/')}`" for name in claim.tests),
        "recorded": origin and recorded_with(origin),
        "measured anew": stored
        and f"only the short form: the full one reads the stored runs of {stored}",
    }
    return "\n".join(f"{name}\n: {value}\n" for name, value in known.items() if value)


def recorded_with(origin):
    """Markdown: what measured one record, in short."""
    changed = "" if origin.get("code_as_committed", True) else " with changes"
    parts = [f"{name} {origin[name]}" for name in TOOLS if name in origin]
    machine = f"{origin['machine']} {origin.get('instructions', '')}".strip()
    commit = origin.get("commit") or origin.get("recorded_in") or "none"
    return ", ".join([f"commit `{commit[:7]}`{changed}", *parts, machine])


def overview(claims, records):
    """Markdown: the ids of the claims by verdict, each a link to its entry."""
    rows = [["verdict", "claims"]]
    for name in VERDICTS:
        links = [f"{{ref}}`{c.id} <{anchor(c)}>`" for c in claims if verdict(c, records) == name]
        rows += [[f"**{name}** ({len(links)})", ", ".join(links)]] if links else []
    return table(rows)


def anchor(claim):
    """The label of a claim on the ledger page."""
    return "claim-" + claim.id.replace("/", "-")


SHOWN = {"ledger-summary": summary, "ledger-counts": counts, "ledger-overview": overview}


class Ledger(SphinxDirective):
    """One of the directives above."""

    optional_arguments = 1

    def run(self):
        root = Path(self.env.srcdir)
        files = root / "claims.yml", root / "results" / "claims.json"
        for file in files:
            self.env.note_dependency(str(file))
        claims, (_, records) = read_claims(files[0]), read_ledger(files[1])
        if self.name == "ledger-claims":
            return self._entries(claims, records)
        return self._parse(SHOWN[self.name](claims, records))

    def _parse(self, text):
        node = nodes.container()
        lines = StringList(text.splitlines(), source=self.get_source_info()[0])
        self.state.nested_parse(lines, self.content_offset, node)
        return node.children

    def _entries(self, claims, records):
        """Of each claim one line, and on the website a box that opens to the numbers."""
        roles, shown = labels(chapter_texts(self.env.srcdir).values()), []
        for claim in claims:
            if self.arguments[0] == (wing(claim) if wing(claim) in WINGS else "others"):
                came = verdict(claim, records)
                text = f"({anchor(claim)})=\n**{claim.id}.** {claim.statement.strip()}"
                target, line = self._parse(text)
                badge = nodes.strong("", came, classes=["verdict", came.replace(" ", "-")])
                line += [nodes.Text(" "), badge, nodes.Text(f" ({claim.status})")]
                inner = self._parse(facts(claim, records.get(claim.id, {}), roles))
                shown += [_html('<details class="claim"><summary>'), target, line]
                shown += [_html("</summary>"), *inner, _html("</details>")]
        return shown


def _html(text):
    return nodes.raw("", text, format="html")


def collect(app):
    """figure -> [(text, address from the site's root), ...], and the records to copy."""
    root = Path(app.srcdir)
    app.figure_links, app.figure_records = {}, set()
    if app.builder.name != "html" or not (root / "claims.yml").exists():
        return  # print has no links to pages
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


def _copy_records(app, exception):
    if exception is None and app.builder.name == "html":
        Path(app.outdir, FOLDER).mkdir(exist_ok=True)
        for record in filter(Path.exists, app.figure_records):
            shutil.copyfile(record, Path(app.outdir, FOLDER, record.name))


def setup(app):
    """Register the directives, connect to Sphinx."""
    for name in (*SHOWN, "ledger-claims"):
        app.add_directive(name, Ledger)
    app.connect("builder-inited", collect)
    app.connect("doctree-resolved", _under_figures)
    app.connect("build-finished", _copy_records)
    return {"parallel_read_safe": True}
