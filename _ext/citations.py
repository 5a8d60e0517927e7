"""Author-year citations in round brackets: the reference style `book`.

A work without a year is cited by its kind, which stands in its field `year`.
"""

from dataclasses import dataclass, field
from functools import partial

from sphinxcontrib.bibtex.plugin import register_plugin
from sphinxcontrib.bibtex.style.referencing import BracketStyle
from sphinxcontrib.bibtex.style.referencing.author_year import AuthorYearReferenceStyle

ROUND = partial(BracketStyle, left="(", right=")")


@dataclass
class BookReferenceStyle(AuthorYearReferenceStyle):
    """Author-year with round brackets."""

    bracket_textual: BracketStyle = field(default_factory=ROUND)
    bracket_parenthetical: BracketStyle = field(default_factory=ROUND)


def setup(app):
    """Register the style under the name `book`."""
    register_plugin("sphinxcontrib.bibtex.style.referencing", "book", BookReferenceStyle)
    return {"parallel_read_safe": True}
