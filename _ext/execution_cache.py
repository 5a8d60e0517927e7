"""The execution cache, one folder per chapter and state of what the chapter depends on.

Jupyter's cache compares the cells of a notebook only. Here each chapter gets its own cache
folder, named by the digest of `dependencies.chapter_digest`; Sphinx reads a chapter again when
its digest changed. A change of comments, docstrings or modules that the chapter does not import
changes no digest; going back to an earlier state finds the earlier outputs.
"""

from pathlib import Path

import dependencies


def _chapters(app, env):
    for docname in env.found_docs:
        path = Path(env.doc2path(docname))
        if path.suffix == ".md" and "{code-cell}" in path.read_text():
            yield docname, path


def _outdated(app, env, added, changed, removed):
    """Docnames whose dependencies changed since they were read."""
    stored = getattr(env, "chapter_digests", {})
    fresh = {
        docname: dependencies.chapter_digest(app.srcdir, path)
        for docname, path in _chapters(app, env)
    }
    env.chapter_digests = fresh
    return [docname for docname, digest in fresh.items() if stored.get(docname) != digest]


def _choose_folder(app, docname, source):
    """Before a chapter is read: point the cache at the chapter's own folder."""
    digest = getattr(app.env, "chapter_digests", {}).get(docname)
    if digest is None:
        return
    folder = Path(app.srcdir) / "_build" / ".executed" / docname.replace("/", "-") / digest
    folder.mkdir(parents=True, exist_ok=True)
    app.env.mystnb_config = app.env.mystnb_config.copy(execution_cache_path=str(folder))


def setup(app):
    """Connect to Sphinx."""
    app.connect("env-get-outdated", _outdated)
    app.connect("source-read", _choose_folder)
    return {"parallel_read_safe": True}
