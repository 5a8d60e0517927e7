"""Labels and figures of the chapters, read from their text."""

import re
from pathlib import Path

_TARGET = re.compile(r"^\(([\w-]+)\)=\s*$", re.M)
_EQUATION = re.compile(r"^\$\$\s*\(([\w-]+)\)", re.M)
_PROOF = re.compile(
    r"^[`:]{3,}\{prf:\w+\}[^\n]*\n(?:(?::[\w-]+:[^\n]*|---|[\w-]+:[^\n]*)\n)*?(?::label:|label:)\s*([\w-]+)",
    re.M,
)
_FIGURE = re.compile(
    r"figure:\s*(?:\{[^}]*?name:\s*([\w-]+)|\n(?:\s+[^\n]*\n)*?\s+name:\s*([\w-]+))"
)
_DIRECTIVE_NAME = re.compile(
    r"^[`:]{3,}\{(?:figure|table|list-table|math|code-block)\}[^\n]*\n(?::[\w-]+:[^\n]*\n)*?:(?:name|label):\s*([\w-]+)",
    re.M,
)


def figures(text):
    """Names of the figures and tables that code cells and directives define."""
    return {a or b for a, b in _FIGURE.findall(text)} | set(_DIRECTIVE_NAME.findall(text))


def labels(texts):
    """All labels: name -> the role that refers to it (`ref`, `prf:ref`, `eq`, `numref`)."""
    found = {}
    for text in texts:
        found |= dict.fromkeys(_TARGET.findall(text), "ref")
        found |= dict.fromkeys(_EQUATION.findall(text), "eq")
        found |= dict.fromkeys(figures(text), "numref")
        found |= dict.fromkeys(_PROOF.findall(text), "prf:ref")
    return found


def chapter_texts(root):
    """The texts of all chapters below `root`, by path."""
    return {path: path.read_text() for path in sorted(Path(root, "chapters").rglob("*.md"))}
