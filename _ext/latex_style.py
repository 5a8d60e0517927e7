"""How the printed book looks: fonts, title page, theorem boxes. The text is `book_style.tex`."""

from pathlib import Path

STYLE = Path(__file__).with_name("book_style.tex")


def _configure(app, config):
    elements = dict(config.latex_elements)
    parts = dict(part.split("\n", 1) for part in STYLE.read_text().split("%%% ")[1:])
    elements.update(
        papersize="a4paper",
        pointsize="10pt",
        fontpkg=parts["fontpkg"],
        maketitle=parts["maketitle"],
        extraclassoptions="openany,oneside",
        sphinxsetup="verbatimwithframe=false, VerbatimColor={rgb}{0.965,0.965,0.965}, "
        "TitleColor={rgb}{0.1,0.1,0.1}, InnerLinkColor={rgb}{0.0,0.3,0.55}, "
        "OuterLinkColor={rgb}{0.0,0.3,0.55}, hmargin={28mm,28mm}, vmargin={28mm,28mm}",
    )
    elements["preamble"] = elements.get("preamble", "") + parts["preamble"]
    config.latex_elements = elements


def setup(app):
    """Connect to Sphinx."""
    app.connect("config-inited", _configure, priority=200)
    return {"parallel_read_safe": True}
