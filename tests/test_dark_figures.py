"""Dark versions of figures: what must stay apart stays apart, and every page has both."""

import re
from types import SimpleNamespace

from dark_figures import _finished, dark
from paper.figures.style import COLOURS


def luminance(colour):
    linear = [(int(colour[i : i + 2], 16) / 255) ** 2.2 for i in (1, 3, 5)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_lines_are_read_on_a_dark_page():
    drawn = [re.sub("#.{6}", dark, c) for c in COLOURS]
    page = luminance(re.sub("#.{6}", dark, "#ffffff"))
    assert all((luminance(c) + 0.05) / (page + 0.05) >= 4.5 for c in drawn)
    assert len(set(drawn)) == len(COLOURS)


def test_every_figure_is_there_twice(tmp_path):
    (tmp_path / "_images").mkdir()
    (tmp_path / "_images" / "a.svg").write_text('<svg style="stroke: #000000"><use/></svg>')
    page = tmp_path / "page.html"
    page.write_text('<img alt="words" src="../_images/a.svg" /> <img src="other.png" />')
    for _ in range(2):  # a page that a second build leaves alone stays as it is
        _finished(SimpleNamespace(builder=SimpleNamespace(format="html"), outdir=tmp_path), None)
    assert page.read_text().count('alt="words"') == 2 and page.read_text().count("<img") == 3
    assert "#000000" not in (tmp_path / "_images" / "a.dark.svg").read_text()
