"""The execution cache, one folder per chapter and state of what the chapter depends on.

Jupyter's cache compares the cells of a notebook only. Here each chapter gets its own cache
folder, named by the digest of `dependencies.chapter_digest`; Sphinx reads a chapter again when
its digest changed, or when its page is older than its last reading, which may have been for
print. A change of comments, docstrings or modules that the chapter does not import changes no
digest; going back to an earlier state finds the earlier outputs.

Sphinx executes chapters one after another, as it reads them. Here the chapters that it is about
to read are executed before, as many at a time as the machine has processors (or JOBS says), each
in its own kernel, so that Sphinx finds their outputs. One that fails is left to Sphinx, which
runs it again and reports the error with its place.

A build may be killed at any moment: what it half wrote into a cache folder is found and removed.
What a cell wrote to stderr fails the build, and may come from the machine (a home without write
access) rather than from the chapter: such outputs are not kept either, so the next build runs anew.
"""

import logging
import os
import shutil
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from jupyter_cache import get_cache
from sphinx.util.logging import getLogger
from sqlalchemy.exc import SQLAlchemyError

import dependencies
from notebooks import is_clean, list_fonts

logger = getLogger(__name__)


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
    outdated = {docname for docname, digest in fresh.items() if stored.get(docname) != digest}
    return sorted(outdated | set(_old_pages(app, env)))


def _old_pages(app, env):
    """Docnames of pages written before their last reading: Sphinx compares them with the source only."""
    if app.builder.name == "html":
        for docname, microseconds in env.all_docs.items():
            page = Path(app.builder.get_outfilename(docname))
            if page.exists() and page.stat().st_mtime < microseconds / 1e6:
                yield docname


def is_good(folder):
    """False if a notebook in this cache folder is not clean, or a build was killed while it wrote:
    then nothing in it is used.

    Jupyter's cache enters a notebook into its list before it writes the file.
    """
    cache = get_cache(str(folder))
    try:
        cache.list_project_records()
        return all(
            is_clean(cache.get_cache_bundle(record.pk).nb) for record in cache.list_cache_records()
        )
    except (KeyError, ValueError, SQLAlchemyError):
        return False


def _drop_unless_good(folder):
    if folder.exists() and not is_good(folder):
        shutil.rmtree(folder)


def cache_folder(root, docname, digest):
    """Where the outputs of a chapter are kept, made if need be, emptied if it is not good."""
    folder = Path(root) / "_build" / ".executed" / docname.replace("/", "-") / digest
    _drop_unless_good(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _choose_folder(app, docname, source):
    """Before a chapter is read: point the cache at the chapter's own folder."""
    digest = getattr(app.env, "chapter_digests", {}).get(docname)
    if digest is not None:
        folder = cache_folder(app.srcdir, docname, digest)
        app.folders_in_use.append(folder)
        app.env.mystnb_config = app.env.mystnb_config.copy(execution_cache_path=str(folder))


def execute_chapter(path, md_config, nb_config):
    """Seconds that executing a chapter took, or None if its outputs were in the cache."""
    from myst_nb.core.execute import create_client
    from myst_nb.core.read import create_nb_reader

    text = Path(path).read_text()
    reader = create_nb_reader(str(path), md_config, nb_config, text)
    begin = time.time()
    client = create_client(
        reader.read(text), str(path), nb_config, logging.getLogger(__name__), reader.read_fmt
    )
    with client:
        done = client.exec_metadata
    return done["runtime"] if done["mtime"] >= begin else None


def _execute_ahead(app, env, docnames):
    """Execute the chapters that Sphinx is about to read, several at a time."""
    if docnames:
        list_fonts()
    digests = getattr(env, "chapter_digests", {})
    jobs = int(os.environ.get("JOBS") or os.cpu_count() or 1)
    work = [d for d in docnames if d in digests]
    if jobs < 2 or len(work) < 2:
        return
    plain = env.mystnb_config.copy(execution_show_tb=False)
    with ProcessPoolExecutor(min(jobs, len(work)), mp_context=get_context("spawn")) as pool:
        futures = {
            pool.submit(
                execute_chapter,
                env.doc2path(docname),
                env.myst_config,
                plain.copy(
                    execution_cache_path=str(cache_folder(app.srcdir, docname, digests[docname]))
                ),
            ): docname
            for docname in work
        }
        for number, future in enumerate(as_completed(futures), 1):
            name = f"{futures[future]} ({number} of {len(work)})"
            if future.exception() is not None:
                logger.info(f"executing {name}: failed")
            elif future.result() is not None:
                logger.info(f"executing {name}: {future.result():.1f} s")


def _drop_what_failed(app, exception):
    """After a build: outputs with stderr, which it reported, are not there for the next one."""
    for folder in app.folders_in_use:
        _drop_unless_good(folder)


def setup(app):
    """Connect to Sphinx."""
    app.folders_in_use = []
    app.connect("build-finished", _drop_what_failed)
    app.connect("env-get-outdated", _outdated)
    app.connect("env-before-read-docs", _execute_ahead)
    app.connect("source-read", _choose_folder)
    return {"parallel_read_safe": True}
