"""The ledger page: directives that render claims.yml and results/claims.json.

```{ledger-counts}         one sentence: how many claims came out how
```{ledger-summary}        counts by source and verdict
```{ledger-overview}       links to all claims, by verdict
```{ledger-claims} WHOSE   one entry per claim: of a thesis (`000`, `002`), or of this book's part
                           (`saddles`, ...; `others`: of parts that have no section of their own)

On the website a claim opens to its numbers; in print each of these is a table. A claim's id in the
text leads to its entry. Under each figure of the website stand the claims that `claims.yml` says it
supports, and the records they were measured from: links to the ledger and to copies beside the pages.
"""

import shutil
from pathlib import Path
from statistics import median_low

from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective
from tabulate import tabulate

from labels import chapter_texts, labels
from paper.claims import read_claims
from paper.ledger import read_ledger

FOLDER, LEDGER = "records", "chapters/ledger"
#: Of statements of a thesis, then of our own.
PRINTED = ("true", "true with a correction", "false as printed")
VERDICTS = (*PRINTED, "holds", "holds in corrected form", "fails", "not measured")
WINGS = ("saddles", "scales", "together", "kernels")
TOOLS = ("python", "torch", "numpy")
WHOSE = {"000": "Arata's thesis", "002": "Utsunomiya's thesis", "ours": "this book"}


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
    """The verdict in words, from the recorded one: of a thesis's sentence, or of our own result.

    A sentence of a thesis is *true with a correction* if it holds in another form or under a
    condition that it does not name, *false as printed* if it is refuted.
    """
    came = records.get(claim.id, {}).get("verdict", VERDICTS[-1])
    if came == VERDICTS[-1]:
        return came
    if claim.thesis == "ours":
        return "holds in corrected form" if came == "holds-corrected" else came
    if came == "fails" or claim.status == "refuted":
        return PRINTED[2]
    return PRINTED[came == "holds-corrected" or claim.status == "conditional"]


def title(claim):
    """The claim's name as words."""
    return claim.id.split("/")[1].replace("-", " ").capitalize()


def summary(claims, records):
    """Markdown: how many claims of each source came out how."""
    rows = [["verdict", *WHOSE.values()]]
    for came in VERDICTS:
        own = [[c.thesis == t and verdict(c, records) == came for c in claims] for t in WHOSE]
        if any(map(any, own)):
            rows.append([came, *(str(sum(of) or "–") for of in own)])
    return table(rows)


def counts(claims, records):
    """Markdown: one sentence that says how the claims came out."""
    words = ("true", "true with a correction", "false as printed")
    words += ("hold", "hold in corrected form", "fail", "are not measured yet")
    came = [verdict(claim, records) for claim in claims]
    of = {
        v: f"**{came.count(v)}** {how}" for v, how in zip(VERDICTS, words, strict=True) if v in came
    }
    theirs = [text for v, text in of.items() if v in PRINTED]
    own = [text for v, text in of.items() if v not in PRINTED]
    return (
        f"**{len(claims)} claims**, each tested by a run that could have refuted it. Of the statements "
        f"of the theses {', '.join(theirs)}; of our own results {', '.join(own)} "
        "({ref}`the ledger <ledger>`)."
    )


def table(rows):
    """Markdown: a table whose first row is the head."""
    return tabulate(rows, headers="firstrow", tablefmt="github", disable_numparse=True)


def link(label, roles):
    """Markdown: a link to a label of any kind."""
    role = roles.get(label, "ref")
    return f"{{ref}}`the text <{label}>`" if role == "ref" else f"{{{role}}}`{label}`"


def measurements(claim, found):
    """Markdown: every number of a claim by name, beside what was predicted."""
    if not found:
        return ""
    values = {name: numbers(found[name]) for name in ("measured", "predicted", "tolerance")}
    values |= {name: numbers(value) for name, value in found["details"].items()}
    rows = [(f"`{name}`", claim.names.get(name, ""), value) for name, value in values.items()]
    return table([("number", "what it is", "value"), *rows])


def facts(claim, found, roles):
    """Markdown: the numbers of a claim, where it is stated and what would refute it."""
    seeds, origin = found.get("seeds") or [], found.get("provenance", {})
    figures = "".join(f"; {{numref}}`{name}`" for name in claim.figures)
    stored = ", ".join(f"`{name}`" for name in origin.get("from_record", ()))
    known = {
        "it holds if": f"`{claim.predicate}`",
        "as printed, it would need": claim.printed and f"`{claim.printed}`",
        "changed after a measurement": " ".join(claim.changed),
        "range": claim.range,
        "refuted by": claim.refuted_by,
        "status": f"{claim.status}; {f'{len(seeds)} seeds' if seeds else 'deterministic'}",
        "see": link(claim.label, roles) + figures,
        "measure it": f"`python -m paper claims {claim.id}`"
        + (stored and f" (evaluates the stored runs of {stored})"),
        "tests": ", ".join(f"`{name.removeprefix('tests/')}`" for name in claim.tests),
        "recorded": origin and recorded_with(origin),
    }
    listed = "\n".join(f"{name}\n: {value}\n" for name, value in known.items() if value)
    return f"{measurements(claim, found)}\n\n{listed}"


def recorded_with(origin):
    """Markdown: what measured one record, in short."""
    changed = "" if origin.get("code_as_committed", True) else " with changes"
    parts = [f"{name} {origin[name]}" for name in TOOLS if name in origin]
    machine = f"{origin['machine']} {origin.get('instructions', '')}".strip()
    commit = origin.get("commit") or origin.get("recorded_in") or "none"
    return ", ".join([f"commit `{commit[:7]}`{changed}", *parts, machine])


def overview(claims, records):
    """Markdown: the claims by verdict, each a link to its entry."""
    rows = [["verdict", "claims"]]
    for name in VERDICTS:
        links = [
            f"{{ref}}`{title(c)} <{anchor(c)}>`" for c in claims if verdict(c, records) == name
        ]
        rows += [[f"{name} ({len(links)})", ", ".join(links)]] if links else []
    return table(rows)


def anchor(claim):
    """The label of a claim on the ledger page."""
    return "claim-" + claim.id.replace("/", "-")


def listed(claim, section):
    """Whether a claim belongs in a section: a thesis's number, or a wing for our own results."""
    if claim.thesis != "ours" or section in WHOSE:
        return claim.thesis == section
    return section == (wing(claim) if wing(claim) in WINGS else "others")


SHOWN = {"ledger-summary": summary, "ledger-counts": counts, "ledger-overview": overview}
#: Widths of the printed table's columns, in parts of the line.
COLUMNS = r"p{0.64\linewidth}>{\raggedright\arraybackslash}p{0.29\linewidth}"


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
        """Of each claim, on the website a line that opens to its numbers; in print a table."""
        roles, shown = labels(chapter_texts(self.env.srcdir).values()), []
        rows, places = [["statement", "verdict and number"]], []
        for claim in (c for c in claims if listed(c, self.arguments[0])):
            came, found = verdict(claim, records), records.get(claim.id, {})
            holds = claim.statement
            told = f"*As printed:* {claim.sentence} *Here:* " if claim.sentence else ""
            told += holds
            target, line = self._parse(f"({anchor(claim)})=\n**{title(claim)}.** {told}")
            badge = nodes.strong("", came, classes=["verdict", came.replace(" ", "-")])
            after = line.index(next(line.findall(nodes.strong))) + 1
            line[after:after] = [nodes.Text(" "), badge]
            opened = f'<details class="claim" data-verdict="{came}"><summary>'
            inner = [_html(opened), target, line, _html("</summary>")]
            inner += [*self._parse(facts(claim, found, roles)), _html("</details>")]
            shown.append(addnodes.only("", *inner, expr="not latex"))
            places.append(
                rf"\phantomsection\label{{\detokenize{{{self.env.docname}:{anchor(claim)}}}}}"
            )
            short = "; ".join(
                f"*{name}* {numbers(found[name])}" for name in ("measured", "predicted") if found
            )
            quantity = claim.names.get("measured", "")
            rows.append([f"**{title(claim)}.** {told}", f"**{came}.** {quantity}: {short}"])
        if len(rows) > 1:
            printed = self._parse(table(rows))
            for node in printed:
                node["classes"].append("longtable")
            spec = addnodes.tabular_col_spec(spec=COLUMNS)
            labelled = nodes.raw("", "".join(places), format="latex")
            shown.append(addnodes.only("", labelled, spec, *printed, expr="latex"))
        return shown


def _html(text):
    return nodes.raw("", text, format="html")


def collect(app):
    """figure -> [(text, address from the site's root), ...], and the records to copy."""
    root = Path(app.srcdir)
    app.figure_links, app.figure_records, app.claim_ids = {}, set(), set()
    if (root / "claims.yml").exists():
        app.claim_ids = {claim.id for claim in read_claims(root / "claims.yml")}
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
    for name in (*SHOWN, "ledger-claims"):
        app.add_directive(name, Ledger)
    app.connect("builder-inited", collect)
    app.connect("doctree-read", _ids_as_links)
    app.connect("doctree-resolved", _under_figures)
    app.connect("build-finished", _copy_records)
    return {"parallel_read_safe": True}
