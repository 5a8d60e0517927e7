"""Scripts that pages do not need are left out, and the colour theme follows the reader's system.

Jupyter Book always adds the scripts of `thebe` (live kernels), twice, so that every page begins
with an error in the browser's console; this book does not use them. The theme wants a mode to
start from and complains when there is none.
"""

#: The live figures' page names its scripts itself; loaded twice, their buttons would act twice.
CITATIONS = 'class="citation-list"'
UNUSED = ("THEBE_JS_URL", "sphinx-thebe", "live/")


def needed(entries):
    """The script or style entries of a page without the unused ones and without repetitions."""
    kept, seen = [], set()
    for entry in entries:
        name = str(getattr(entry, "filename", entry) or "")
        body = str(getattr(entry, "attributes", {}).get("body") or "")
        if any(word in name + body for word in UNUSED) or (name, body) in seen:
            continue
        seen.add((name, body))
        kept.append(entry)
    return kept


def _page(app, pagename, templatename, context, doctree):
    for kind in ("script_files", "css_files"):
        if kind in context:
            context[kind] = needed(context[kind])
    context.setdefault("default_mode", "auto")
    # The entries of a bibliography are no list items: as a list it would be one without items.
    if "body" in context:
        context["body"] = context["body"].replace('role="list" class="citation-list"', CITATIONS)


def _formulas(app):
    # On the single page MathJax is wanted though its own source, the landing page, has no formula.
    if app.builder.name == "singlehtml":
        app.config.html_assets_policy = "always"


def setup(app):
    """Connect to Sphinx, after all who add scripts."""
    app.connect("builder-inited", _formulas)
    app.connect("html-page-context", _page, priority=950)
    return {"parallel_read_safe": True}
