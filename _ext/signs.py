"""The index of signs: first uses in a chapter lead to the notation page, and the notation page back.

The tables of the notation page list the signs in their first column, by scope: a heading that
names a part of the book holds for that part. In every chapter the first formula in running text
that is a sign alone, or a sign and a relation, becomes a link to its entry; so does the first use
of a word that the page defines. A sign on the notation page leads to its first use in the book.
"""

import re
from pathlib import Path
from typing import NamedTuple

from docutils import nodes

from notebooks import chapter_files

__all__ = ["Entry", "entries", "meaning_of"]

PAGE = "chapters/notation"
PARTS = {"(Part I)": "saddles", "(Part II)": "scales"}
TEXT_PARTS = ("saddles", "scales", "together")
RELATION = r"(?:$|\s*(?:=|<|>|\\in\b|\\sim\b|\\leq?\b|\\geq?\b|\\to\b|\\ll\b|\\gg\b))"
_ROW = re.compile(r"^\| \$(.+?)\$ \|", re.M)
_HEADING = re.compile(r"^## (.*)$", re.M)
_WORD = re.compile(r"^(\S[^\n]*)\n: ", re.M)
#: Ancestors in which nothing is linked.
CLOSED = (
    nodes.title,
    nodes.caption,
    nodes.reference,
    nodes.table,
    nodes.literal_block,
    nodes.rubric,
    nodes.term,
    nodes.legend,
)


class Entry(NamedTuple):
    """A sign or word: what it is called, its anchor, and the part of the book it holds for."""

    names: tuple
    anchor: str
    part: str | None
    is_word: bool


def _slug(text):
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")


def _names(cell):
    """The signs of a table's first cell: `a, b` are two, and a list's dots are none."""
    found, depth, word = [], 0, ""
    for letter in cell + ",":
        depth += letter in "({["
        depth -= letter in ")}]"
        if letter == "," and depth == 0:
            found.append(word.split("=")[0].strip())
            word = ""
        else:
            word += letter
    if len(found) > 1:
        found.append(cell)
    return tuple(name for name in found if name and name not in (r"\dots", r"\ldots"))


def entries(text):
    """The signs and words that the text of the notation page defines."""
    found = []
    pieces = [*_HEADING.finditer(text)]
    for heading, after in zip(pieces, [*pieces[1:], None], strict=True):
        body = text[heading.end() : after.start() if after else len(text)]
        part = next((p for mark, p in PARTS.items() if mark in heading[1]), None)
        tag = f"{part}-" if part else ""
        for cell in _ROW.findall(body):
            names = _names(cell)
            found.append(Entry(names, f"sign-{tag}{_slug(cell) or len(found)}", part, False))
        if heading[1] == "Words":
            for term in _WORD.findall(body):
                words = tuple(
                    w.strip() for w in re.sub(r"\binputs$", "", term).split(",") if "$" not in w
                )
                found.append(Entry(words, f"word-{_slug(term)}", None, True))
    return found


def meaning_of(known, part):
    """sign -> entry in a part of the book; in Part III only what both parts agree on."""
    found, doubtful = {}, set()
    own = [e for e in known if not e.is_word]
    for entry in sorted(own, key=lambda e: e.part is not None):
        if part in PARTS.values() and entry.part not in (None, part):
            continue
        for name in entry.names:
            if part not in PARTS.values() and name in found:
                doubtful.add(name)
            found[name] = entry
    return {name: entry for name, entry in found.items() if name not in doubtful}


def _part(docname):
    pieces = docname.split("/")
    return pieces[1] if len(pieces) > 2 and pieces[1] in TEXT_PARTS else None


def _open(node):
    while node is not None:
        if isinstance(node, CLOSED) or "margin" in (node.get("classes") or ()):
            return False
        if isinstance(node, nodes.section | nodes.document):
            return True
        node = node.parent
    return True


def _mark_first_uses(app, doctree):
    """When a chapter is read: ids on the first use of every sign."""
    docname = app.env.docname
    part = _part(docname)
    if part is None:
        return
    meanings = meaning_of(app.env.sign_entries, part)
    patterns = {
        n: re.compile(re.escape(n) + RELATION) for n in sorted(meanings, key=len, reverse=True)
    }
    alone, related = {}, {}
    for node in doctree.findall(nodes.math):
        text = node.astext().strip()
        name = next((n for n, pattern in patterns.items() if pattern.match(text)), None)
        if name is not None and _open(node.parent):
            (alone if name == text else related).setdefault(meanings[name].anchor, node)
    found = related | alone
    for anchor, node in found.items():
        node["ids"].append(f"first-{anchor}")
    app.env.first_signs[docname] = tuple(found)


def _link(builder, docname, target, anchor, title, *children):
    address = builder.get_relative_uri(docname, target) + f"#{anchor}"
    more = {"reftitle": title} if title else {}
    return nodes.reference(
        "", "", *children, refuri=address, internal=True, classes=["sign"], **more
    )


def _wrap(builder, docname, node, target, anchor, title):
    # A typeset formula has no text: without a title a screen reader would announce an empty link.
    link = _link(builder, docname, target, anchor, title or "what this sign means")
    node.parent.replace(node, link)
    link += node


def _link_words(builder, docname, doctree, known):
    waiting = {word: entry for entry in known if entry.is_word for word in entry.names}
    for node in list(doctree.findall(nodes.Text)):
        if not isinstance(node.parent, nodes.paragraph | nodes.emphasis) or not _open(node.parent):
            continue
        for word in sorted(waiting, key=len, reverse=True):
            match = re.search(rf"(?<![\w-]){re.escape(word)}s?(?![\w-])", node.astext(), re.I)
            if match and node.parent is not None:
                text, entry = node.astext(), waiting.pop(word)
                waiting = {w: e for w, e in waiting.items() if e is not entry}
                link = _link(builder, docname, PAGE, entry.anchor, None, nodes.Text(match[0]))
                node.parent.replace(
                    node, [nodes.Text(text[: match.start()]), link, nodes.Text(text[match.end() :])]
                )
                break


def _chapter_links(app, doctree, docname, known):
    for node in list(doctree.findall(nodes.math)):
        anchor = next(
            (i.removeprefix("first-") for i in node["ids"] if i.startswith("first-")), None
        )
        if anchor:
            _wrap(app.builder, docname, node, PAGE, anchor, None)
    if _part(docname) != "scales":
        _link_words(app.builder, docname, doctree, known)


def _notation_links(app, doctree, known):
    """Ids on the entries, and a link from each sign to its first use in the book."""
    order = [
        p.relative_to(app.srcdir).with_suffix("").as_posix()
        for p in chapter_files(Path(app.srcdir))
    ]
    by_cell = {names: entry for entry in known if not entry.is_word for names in [entry.names]}
    queue = {}
    for entry in known:
        queue.setdefault(entry.names, []).append(entry)
    for row in doctree.findall(nodes.row):
        sign = next(iter(row.children[0].findall(nodes.math)), None)
        if sign is None or _names(sign.astext()) not in by_cell:
            continue
        entry = queue[_names(sign.astext())].pop(0)
        row["ids"].append(entry.anchor)
        first = next((d for d in order if entry.anchor in app.env.first_signs.get(d, ())), None)
        if first:
            _wrap(app.builder, PAGE, sign, first, f"first-{entry.anchor}", "first use")
    words = [entry for entry in known if entry.is_word]
    for term, entry in zip(doctree.findall(nodes.term), words, strict=False):
        term["ids"].append(entry.anchor)


def _resolved(app, doctree, docname):
    if app.builder.name != "html":
        return
    if docname == PAGE:
        _notation_links(app, doctree, app.env.sign_entries)
    elif _part(docname):
        _chapter_links(app, doctree, docname, app.env.sign_entries)


def _begin(app, env, added, changed, removed):
    """Read the notation page's text first; when its entries changed, every chapter is read again."""
    path = Path(app.srcdir) / f"{PAGE}.md"
    fresh = entries(path.read_text(encoding="utf8")) if path.exists() else []
    old, env.sign_entries = getattr(env, "sign_entries", None), fresh
    if not hasattr(env, "first_signs"):
        env.first_signs = {}
    return [d for d in env.found_docs if _part(d)] if fresh != old else []


def _purge(app, env, docname):
    getattr(env, "first_signs", {}).pop(docname, None)


def _updated(app, env):
    """The notation page links to the chapters: it is written whenever their first uses moved."""
    uses = dict(env.first_signs)
    moved, env.written_signs = getattr(env, "written_signs", None) != uses, uses
    return [PAGE] if moved and PAGE in env.found_docs else []


def setup(app):
    """Connect to Sphinx."""
    app.connect("env-get-outdated", _begin)
    app.connect("doctree-read", _mark_first_uses)
    app.connect("env-purge-doc", _purge)
    app.connect("env-updated", _updated)
    app.connect("doctree-resolved", _resolved)
    return {"parallel_read_safe": False}
