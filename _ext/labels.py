"""Labels and figures of the chapters, read from their text."""

import re
from pathlib import Path

_TARGET = re.compile(r"^\(([\w-]+)\)=\s*$", re.M)
_EQUATION = re.compile(r"^\$\$\s*\(([\w-]+)\)", re.M)
_FIGURE = re.compile(r"figure:\s*\n(?:\s+[^\n]*\n)*?\s+name:\s*([\w-]+)")
_DIRECTIVE = r"^[`:]{3,}\{(%s)[^\n]*\n(?::[\w-]+:[^\n]*\n)*?:(?:name|label):\s*([\w-]+)"
_PROOF = re.compile(_DIRECTIVE % "prf:", re.M)
_TABLE = re.compile(_DIRECTIVE % r"(?:figure|table|list-table)\}", re.M)


def figures(text):
    """Names of the figures and tables that code cells and directives define."""
    return {*_FIGURE.findall(text), *(name for _, name in _TABLE.findall(text))}


def labels(texts):
    """All labels: name -> the role that refers to it (`ref`, `prf:ref`, `eq`, `numref`)."""
    found = {}
    for text in texts:
        found |= dict.fromkeys(_TARGET.findall(text), "ref")
        found |= dict.fromkeys(_EQUATION.findall(text), "eq")
        found |= dict.fromkeys(figures(text), "numref")
        found |= dict.fromkeys((name for _, name in _PROOF.findall(text)), "prf:ref")
    return found


def chapter_texts(root):
    """The texts of all chapters below `root`, by path."""
    return {path: path.read_text() for path in sorted(Path(root, "chapters").rglob("*.md"))}
