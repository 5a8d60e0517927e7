"""Buttons of a page: notebook and source to download, always; launch and repository, if there is one.

The repository's address is set in one place, `repository: url` of `_config.yml`. When it is empty
no button leads to it. Binder opens the chapters as notebooks: `environment.yml` brings jupytext,
`postBuild` makes notebooks their default view. Colab cannot open chapters in Markdown: no button.
"""

import shutil
from pathlib import Path

BINDER = "https://mybinder.org"
BUTTONS = ("use_repository_button", "use_issues_button", "use_edit_page_button")


def theme_options(options):
    """The theme's options, buttons switched on or off by the repository's address."""
    there = bool((options.get("repository_url") or "").strip())
    launch = {
        "notebook_interface": "jupyterlab",
        "binderhub_url": BINDER if there else "",
        "colab_url": "",
        "thebe": False,
    }
    return {**options, **dict.fromkeys(BUTTONS, there), "launch_buttons": launch}


def _configure(app, config):
    config.html_theme_options = theme_options(config.html_theme_options)


def _notebook(app, pagename, templatename, context, doctree):
    """Offer the executed chapter as a notebook, beside its source."""
    made = Path(app.outdir).parent / "jupyter_execute" / f"{pagename}.ipynb"
    if doctree is None or not made.exists():
        return
    target = Path(app.outdir) / "_sources" / f"{pagename}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(made, target)
    context["ipynb_source"] = f"{pagename}.ipynb"


def setup(app):
    """Connect to Sphinx, before the theme adds its buttons."""
    app.connect("config-inited", _configure, priority=100)
    app.connect("html-page-context", _notebook, priority=400)
    return {"parallel_read_safe": True}
