"""The book's TeX macros: one table, from which MathJax and LaTeX both take them."""

MACROS = {
    "R": r"\mathbb{R}",
    "E": r"\mathbb{E}",
    "tr": r"\operatorname{tr}",
    "diag": r"\operatorname{diag}",
    "rank": r"\operatorname{rank}",
    "sxx": r"\Sigma_{xx}",
    "syx": r"\Sigma_{yx}",
    "syy": r"\Sigma_{yy}",
    "T": r"\top",
}


def latex_preamble():
    r"""The macros as LaTeX: `\providecommand` first, so that a predefined name is no error."""
    return "\n".join(
        rf"\providecommand{{\{name}}}{{}}\renewcommand{{\{name}}}{{{body}}}"
        for name, body in MACROS.items()
    )


def _install(app, config):
    config.mathjax3_config = {"tex": {"macros": dict(MACROS), "tags": "none"}}
    elements = dict(config.latex_elements)
    elements["preamble"] = latex_preamble() + "\n" + elements.get("preamble", "")
    config.latex_elements = elements


def setup(app):
    """Connect to Sphinx; before `sphinx.ext.mathjax` reads its configuration."""
    app.connect("config-inited", _install, priority=100)
    return {"parallel_read_safe": True}
