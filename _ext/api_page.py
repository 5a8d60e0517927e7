"""The API page: every public module of the package, from its docstrings.

The docstrings are contracts in plain text: `name : meaning` lines, aligned, with formulas such as
|f - y|^2 that reStructuredText would misread. They are shown as written: prose as paragraphs with
code in backticks, contract lines verbatim.

    ```{api-modules} learning_dynamics.saddles     a section for each module below it
"""

import re
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

TOP = ("learning_dynamics", "paper")
_CONTRACT = re.compile(r"^\S[^:]{0,60}?\s*: ")
_SPECIAL = re.compile(r"([\\*|_<>])")


def _escape(text):
    """Prose for reStructuredText: `code` becomes literal, special characters plain."""
    parts = re.split(r"(`+[^`]+`+)", text)
    shown = ""
    for i, part in enumerate(parts):
        if i % 2 == 0:
            shown += _SPECIAL.sub(r"\\\1", part)
            continue
        # A literal must not touch the text around it: `\ ` separates without a space.
        before = "" if not parts[i - 1] or parts[i - 1][-1].isspace() else "\\ "
        after = "" if not parts[i + 1] or parts[i + 1][0].isspace() else "\\ "
        shown += f"{before}``{part.strip('`')}``{after}"
    return shown


def _is_verbatim(lines):
    return any(line.startswith(" ") for line in lines) or any(map(_CONTRACT.match, lines))


def render(lines):
    """A docstring's lines as reStructuredText lines."""
    shown, paragraph = [], []

    def flush():
        if not paragraph:
            return
        if shown and _is_verbatim(paragraph):
            shown.extend(["::", "", *(f"   {line}" for line in paragraph), ""])
        else:
            shown.extend([_escape(" ".join(line.strip() for line in paragraph)), ""])
        paragraph.clear()

    for line in lines:
        if line.strip():
            paragraph.append(line)
        else:
            flush()
    flush()
    return shown


def _docstring(app, what, name, obj, options, lines):
    lines[:] = render(lines)


def modules(root, prefix):
    """Dotted names of the public modules directly below `prefix`, and of its subpackages."""
    folder = Path(root) / "lib" / Path(*prefix.split("."))
    names = []
    for path in sorted(folder.iterdir()):
        if path.suffix == ".py" and not path.name.startswith("_"):
            names.append(f"{prefix}.{path.stem}")
        elif (path / "__init__.py").exists():
            names += modules(root, f"{prefix}.{path.name}") if prefix not in TOP else []
    return names


class ApiModules(SphinxDirective):
    """One section per module."""

    required_arguments = 1

    def run(self):
        text = []
        for name in modules(self.env.srcdir, self.arguments[0]):
            short = name.partition(".")[2]
            text += [f"### {short}", "", "```{eval-rst}", f".. automodule:: {name}", "```", ""]
        node = nodes.section()
        node.document = self.state.document
        lines = StringList(text, source=self.get_source_info()[0])
        self.state.nested_parse(lines, self.content_offset, node, match_titles=True)
        return node.children


def setup(app):
    """Register the directive and how docstrings are shown."""
    app.add_directive("api-modules", ApiModules)
    app.connect("autodoc-process-docstring", _docstring)
    return {"parallel_read_safe": True}
