"""The ledger page: directives that render claims.yml and results/claims.json.

```{ledger-counts}         one sentence: how many claims came out how
```{ledger-summary}        counts by status and verdict
```{ledger-overview}       links to all claims, by verdict
```{ledger-claims} WING    one entry per claim of that wing, with its measured numbers;
                           WING `others`: of wings that have no section of their own
"""

import math
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from labels import chapter_texts, labels
from paper.claims import STATUSES, read_claims
from paper.ledger import read_ledger

VERDICTS = ("holds", "holds-corrected", "fails", "not measured")
WINGS = ("saddles", "scales", "together", "kernels")
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
    if not flat:
        return "–"
    if len(set(flat)) == 1:
        return f"{number(flat[0])} ({len(flat)} times)" if len(flat) > 1 else number(flat[0])
    if len(flat) <= 4:
        return ", ".join(map(number, flat))
    low, high = min(flat), max(flat)
    middle = sorted(flat)[math.ceil(len(flat) / 2) - 1]
    return f"{number(low)} to {number(high)}, median {number(middle)} ({len(flat)} values)"


def wing(claim):
    """The part of the id before the slash."""
    return claim.id.split("/")[0]


def summary(claims, records):
    """Markdown: how many claims of each status came out how."""
    rows = [["status", *VERDICTS, "all"]]
    for status in STATUSES:
        own = [c for c in claims if c.status == status]
        verdicts = [records.get(c.id, {}).get("verdict", "not measured") for c in own]
        rows.append([status, *(str(verdicts.count(v)) for v in VERDICTS), str(len(own))])
    every = [records.get(c.id, {}).get("verdict", "not measured") for c in claims]
    rows.append(["**all**", *(f"**{every.count(v)}**" for v in VERDICTS), f"**{len(claims)}**"])
    return table(rows)


def counts(claims, records):
    """Markdown: one sentence that says how the claims came out."""
    verdicts = [records.get(c.id, {}).get("verdict", "not measured") for c in claims]
    told = {
        "holds": "hold",
        "holds-corrected": "hold only in corrected form",
        "fails": "fail",
        "not measured": "are not measured yet",
    }
    parts = [f"**{verdicts.count(v)}** {words}" for v, words in told.items() if v in verdicts]
    return (
        f"**{len(claims)} claims**, each tested by a run that could have refuted it: "
        f"{', '.join(parts)} ({{ref}}`the ledger <ledger>`)."
    )


def table(rows):
    """Markdown: a table whose first row is the head."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def link(label, roles):
    """Markdown: a link to a label of any kind."""
    role = roles.get(label, "ref")
    return f"{{ref}}`the text <{label}>`" if role == "ref" else f"{{{role}}}`{label}`"


def head(claim):
    """Markdown: the line by which a claim is found."""
    return f"({anchor(claim)})=\n**{claim.id}.** {claim.statement.strip()}"


def facts(claim, found, roles):
    """Markdown: the numbers of a claim, where it is stated and what would refute it."""
    seeds = found.get("seeds") or []
    known = [
        ("claimed by", WHOSE[claim.thesis]),
        ("measured", numbers(found.get("measured"))),
        ("predicted", numbers(found.get("predicted"))),
        ("tolerance", numbers(found.get("tolerance"))),
        ("runs", f"{len(seeds)} seeds" if seeds else "deterministic"),
        ("range", claim.range),
        ("refuted by", claim.refuted_by),
        ("it holds if", f"`{claim.predicate.strip()}`"),
    ]
    if claim.printed:
        known.append(("as printed, it would need", f"`{claim.printed.strip()}`"))
    figures = ", ".join(f"{{numref}}`{name}`" for name in claim.figures)
    tests = ", ".join(f"`{name.removeprefix('tests/')}`" for name in claim.tests)
    known.append(("see", link(claim.label, roles) + (f"; {figures}" if figures else "")))
    known.append(("tests", tests))
    if origin := found.get("provenance"):
        known.append(("recorded", recorded_with(origin)))
    if stored := found.get("provenance", {}).get("from_record"):
        known.append(
            (
                "measured anew",
                "only the short form: the full one reads the stored runs of "
                + ", ".join(f"`{name}`" for name in stored),
            )
        )
    return "\n".join(f"{name}\n: {value}\n" for name, value in known)


def commit_of(origin):
    """The commit that a record names: that of the code, or the one that brought the record."""
    return origin.get("commit") or origin.get("recorded_in") or "none"


def recorded_with(origin):
    """Markdown: what measured one record, in short."""
    parts = [
        f"commit `{commit_of(origin)[:7]}`"
        + ("" if origin.get("code_as_committed", True) else " with changes")
    ]
    parts += [f"{name} {origin[name]}" for name in ("python", "torch", "numpy") if name in origin]
    return ", ".join([*parts, f"{origin['machine']} {origin.get('instructions', '')}".strip()])


def origins(records):
    """Markdown: one sentence on what measured all records together."""
    every = [record["provenance"] for record in records.values()]
    told = [
        f"{name} {', '.join(sorted({o[name] for o in every}))}"
        for name in ("python", "torch", "numpy")
    ]
    return (
        f"The records come from {len(set(map(commit_of, every)))} commits, measured with "
        f"{'; '.join(told)} on {', '.join(sorted({o['machine'] for o in every}))}; "
        "each entry names its own."
    )


def overview(claims, records):
    """Markdown: the ids of the claims by verdict, each a link to its entry."""
    rows = [["verdict", "claims"]]
    for verdict in VERDICTS:
        own = [c for c in claims if records.get(c.id, {}).get("verdict", "not measured") == verdict]
        if own:
            rows.append(
                [
                    f"**{verdict}** ({len(own)})",
                    ", ".join(f"{{ref}}`{c.id} <{anchor(c)}>`" for c in own),
                ]
            )
    return table(rows)


def anchor(claim):
    """The label of a claim on the ledger page."""
    return "claim-" + claim.id.replace("/", "-")


class _Ledger(SphinxDirective):
    def _read(self):
        root = Path(self.env.srcdir)
        files = root / "claims.yml", root / "results" / "claims.json"
        for file in files:
            self.env.note_dependency(str(file))
        return read_claims(files[0]), read_ledger(files[1])

    def _parse(self, text):
        node = nodes.container()
        lines = StringList(text.splitlines(), source=self.get_source_info()[0])
        self.state.nested_parse(lines, self.content_offset, node)
        return node.children


class Summary(_Ledger):
    """Counts by status and verdict, and what measured."""

    def run(self):
        claims, (_, records) = self._read()
        told = f"\n\n{origins(records)}" if records else ""
        return self._parse(summary(claims, records) + told)


class Counts(_Ledger):
    """One sentence."""

    def run(self):
        claims, (_, records) = self._read()
        return self._parse(counts(claims, records))


class Claims(_Ledger):
    """The claims of one wing."""

    required_arguments = 1

    def run(self):
        claims, (_, records) = self._read()
        name = self.arguments[0]
        own = [c for c in claims if (wing(c) if wing(c) in WINGS else "others") == name]
        if not own:
            return [] if name == "others" else self._parse("No claims yet.")
        roles = labels(chapter_texts(self.env.srcdir).values())
        return [
            node for claim in own for node in self._entry(claim, records.get(claim.id, {}), roles)
        ]

    def _entry(self, claim, found, roles):
        """One line, and on the website a box that opens to the numbers."""
        verdict = found.get("verdict", "not measured")
        target, line = self._parse(head(claim))
        badge = nodes.strong("", verdict, classes=["verdict", verdict.replace(" ", "-")])
        line += [nodes.Text(" "), badge, nodes.Text(f" ({claim.status})")]
        yield _html('<details class="claim"><summary>')
        yield from (target, line)
        yield _html("</summary>")
        yield from self._parse(facts(claim, found, roles))
        yield _html("</details>")


class Overview(_Ledger):
    """The ids of all claims by verdict."""

    def run(self):
        claims, (_, records) = self._read()
        return self._parse(overview(claims, records))


def _html(text):
    return nodes.raw("", text, format="html")


def setup(app):
    """Register the directives."""
    app.add_directive("ledger-summary", Summary)
    app.add_directive("ledger-counts", Counts)
    app.add_directive("ledger-claims", Claims)
    app.add_directive("ledger-overview", Overview)
    return {"parallel_read_safe": True}
