"""Formulas without a network: MathJax from the package sphinx-mathjax-offline, one file of it.

The package holds every variant (24 MB); the site uses one self-contained file that draws glyphs
as paths and needs no fonts.
"""

import importlib.util
import shutil
from pathlib import Path

VARIANT = "tex-svg.js"


def source():
    """The path of MathJax's file inside the installed package."""
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    if spec is None:
        raise ImportError("sphinx-mathjax-offline is not installed: run `make distclean`")
    return Path(spec.origin).parent / "static" / "mathjax" / VARIANT


def _configure(app, config):
    config.mathjax_path = f"mathjax/{VARIANT}"


def _copy(app, exception):
    if exception is None and app.builder.format == "html":
        target = Path(app.outdir) / "_static" / "mathjax" / VARIANT
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source(), target)


def setup(app):
    """Connect to Sphinx."""
    app.connect("config-inited", _configure, priority=100)
    app.connect("build-finished", _copy)
    return {"parallel_read_safe": True}
