"""Author-year citations in round brackets; a work without a year is cited by its kind.

The two theses carry no year: they appear as "Name (thesis summary)", from `howpublished`.
"""

from dataclasses import dataclass, field

from pybtex.style.template import field as entry_field
from pybtex.style.template import first_of, optional
from sphinxcontrib.bibtex.plugin import register_plugin
from sphinxcontrib.bibtex.style.referencing import BracketStyle
from sphinxcontrib.bibtex.style.referencing import basic_author_year as basic
from sphinxcontrib.bibtex.style.referencing.author_year import AuthorYearReferenceStyle
from sphinxcontrib.bibtex.style.template import join, join2, post_text, pre_text, reference

YEAR_OR_KIND = first_of[optional[entry_field("year")], optional[entry_field("howpublished")], ""]


class _Parenthetical(basic.BasicAuthorYearParentheticalReferenceStyle):
    def inner(self, role_name):
        author = self.person.author_or_editor_or_title(full="s" in role_name)
        return join2(sep1=self.pre_text_sep, sep2=self.post_text_sep)[
            pre_text, reference[join(sep=self.author_year_sep)[author, YEAR_OR_KIND]], post_text
        ]


class _Textual(basic.BasicAuthorYearTextualReferenceStyle):
    def inner(self, role_name):
        author = self.person.author_or_editor_or_title(full="s" in role_name)
        inside = join2(sep1=self.pre_text_sep, sep2=self.post_text_sep)[
            pre_text, reference[YEAR_OR_KIND], post_text
        ]
        return join(sep=self.text_reference_sep)[
            author, join[self.bracket.left, inside, self.bracket.right]
        ]


def _round():
    return BracketStyle(left="(", right=")")


@dataclass
class BookReferenceStyle(AuthorYearReferenceStyle):
    """Author-year with round brackets."""

    bracket_textual: BracketStyle = field(default_factory=_round)
    bracket_parenthetical: BracketStyle = field(default_factory=_round)

    def __post_init__(self):
        super().__post_init__()
        swap = {
            basic.BasicAuthorYearParentheticalReferenceStyle: _Parenthetical,
            basic.BasicAuthorYearTextualReferenceStyle: _Textual,
        }
        for style in self.styles:
            style.__class__ = swap.get(type(style), type(style))


def setup(app):
    """Register the style under the name `book`."""
    register_plugin("sphinxcontrib.bibtex.style.referencing", "book", BookReferenceStyle)
    return {"parallel_read_safe": True}
