"""What pages of the website load and offer: formulas offline, no idle scripts, buttons, the PDF.

*Formulas* need no network: MathJax comes from the package sphinx-mathjax-offline, of whose 24 MB
the site uses one self-contained file, which draws glyphs as paths and needs no fonts.
*Scripts*: Jupyter Book always adds those of `thebe` (live kernels), twice, so that every page begins
with an error in the browser's console; and the theme wants a mode to start from.
*Buttons*: a page offers its source and its executed notebook. Launch and repository buttons appear
once `repository: url` of `_config.yml` has an address. Binder opens chapters as notebooks
(`environment.yml`, `postBuild`); Colab cannot, and has no button.
*The PDF*: the landing page carries its link hidden, and shows it once the PDF lies beside the pages,
whichever of the two was built first:

    python _ext/site_pages.py _build
"""

import importlib.util
import shutil
import sys
from pathlib import Path

import nbformat

from notebooks import built

VARIANT = "mathjax/tex-svg.js"
BINDER = "https://mybinder.org"
BUTTONS = ("use_repository_button", "use_issues_button", "use_edit_page_button")
#: Pages with live figures name their scripts themselves; loaded twice, their buttons would act twice.
UNUSED = ("THEBE_JS_URL", "sphinx-thebe", "live/")
PDF = "learning_dynamics.pdf"
#: Pages in another language than the book, for screen readers and the choice of glyphs.
LANGUAGES = {"chapters/japanese": "ja"}
LANDING = "chapters/index.html"
HIDDEN, SHOWN = '<p class="printed-copy" hidden>', '<p class="printed-copy">'


def theme_options(options):
    """The theme's options, buttons switched on or off by the repository's address."""
    there = bool((options.get("repository_url") or "").strip())
    launch = {"notebook_interface": "jupyterlab", "colab_url": "", "thebe": False}
    launch["binderhub_url"] = BINDER if there else ""
    return {**options, **dict.fromkeys(BUTTONS, there), "launch_buttons": launch}


def needed(entries):
    """The script or style entries of a page without the unused ones and without repetitions."""
    kept = {}
    for entry in entries:
        name = str(getattr(entry, "filename", entry) or "")
        body = str(getattr(entry, "attributes", {}).get("body") or "")
        if not any(word in name + body for word in UNUSED):
            kept.setdefault((name, body), entry)
    return [*kept.values()]


def place_pdf(build):
    """Copy the PDF of a `_build` folder into its site and show the link; True if it is there."""
    made, site = Path(build, "latex", PDF), Path(build, "html")
    if made.exists() and site.exists():
        shutil.copyfile(made, site / PDF)
    there = (site / PDF).exists()
    if (site / LANDING).exists():
        text = (site / LANDING).read_text(encoding="utf8")
        wanted = text.replace(HIDDEN, SHOWN) if there else text.replace(SHOWN, HIDDEN)
        (site / LANDING).write_text(wanted, encoding="utf8")
    return there


def _configure(app, config):
    config.mathjax_path = VARIANT
    config.html_theme_options = theme_options(config.html_theme_options)


def _formulas(app):
    # On the single page MathJax is wanted though its own source, the landing page, has no formula.
    if app.builder.name == "singlehtml":
        app.config.html_assets_policy = "always"


def _notebook(app, pagename, templatename, context, doctree):
    """The chapter as it was executed; what lies in jupyter_execute has no outputs from the cache."""
    chapter = Path(app.srcdir, f"{pagename}.md")
    if doctree is None or not chapter.exists():
        return
    if done := built(chapter, Path(app.srcdir), app.env.code_state):
        target = Path(app.outdir) / "_sources" / f"{pagename}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(done, target)
        context["ipynb_source"] = f"{pagename}.ipynb"


def _page(app, pagename, templatename, context, doctree):
    for kind in {"script_files", "css_files"} & context.keys():
        context[kind] = needed(context[kind])
    context.setdefault("default_mode", "auto")
    context["language"] = LANGUAGES.get(pagename, context.get("language"))
    # The entries of a bibliography are no list items: as a list it would be one without items.
    if "body" in context:
        context["body"] = context["body"].replace('role="list" class="cit', 'class="cit')


def _finished(app, exception):
    if exception is None and app.builder.format == "html":
        target = Path(app.outdir) / "_static" / VARIANT
        target.parent.mkdir(parents=True, exist_ok=True)
        package = importlib.util.find_spec("sphinx-mathjax-offline")
        shutil.copyfile(Path(package.origin).parent / "static" / VARIANT, target)
        if app.builder.name == "html":
            place_pdf(Path(app.outdir).parent)


def setup(app):
    """Connect to Sphinx: before the theme adds its buttons, after all who add scripts."""
    app.connect("config-inited", _configure, priority=100)
    app.connect("builder-inited", _formulas)
    app.connect("html-page-context", _notebook, priority=400)
    app.connect("html-page-context", _page, priority=950)
    app.connect("build-finished", _finished)
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    place_pdf(sys.argv[1])
