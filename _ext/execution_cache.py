"""The execution cache, one folder per state of the code and chapter; chapters run side by side.

Jupyter's cache compares the cells of a notebook only. Here its folder is named by one digest of
`lib/`, `results/` and the lock, so that any change of these executes the book anew, a change of
text does not, and going back to an earlier state finds the earlier outputs.

Sphinx executes chapters one after another. Here those that it is about to read are executed
before, JOBS at a time, each in its own kernel. One that fails is left to Sphinx, which runs it
again and reports the error with its place. Each chapter prints one line.

A build may be killed at any moment: what it half wrote into a cache folder is found and removed.
What a cell wrote to stderr fails the build, and may come from the machine (a home without write
access) rather than from the chapter: such outputs are not used again either.
"""

import logging
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from jupyter_cache import get_cache
from sqlalchemy.exc import SQLAlchemyError

from notebooks import executed_folder, is_clean, list_fonts, state


def is_good(folder):
    """False if a notebook in a cache folder is not clean, or a build was killed while it wrote.

    Jupyter's cache enters a notebook into its list before it writes the file.
    """
    cache = get_cache(str(folder))
    try:
        cache.list_project_records()
        return all(is_clean(cache.get_cache_bundle(r.pk).nb) for r in cache.list_cache_records())
    except (KeyError, ValueError, SQLAlchemyError):
        return False


def cache_folder(root, docname, digest):
    """Where the outputs of a chapter are kept, made if need be, emptied if it is not good."""
    folder = executed_folder(root, docname, digest)
    if folder.exists() and not is_good(folder):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _has_code(env, docname):
    path = Path(env.doc2path(docname))
    return path.suffix == ".md" and "{code-cell}" in path.read_text(encoding="utf8")


def _outdated(app, env, added, changed, removed):
    """Chapters whose code changed since they were read, pages written before their last reading.

    The last reading may have been for print; Sphinx compares pages with the source only.
    """
    moved, env.code_state = getattr(env, "code_state", None), state(app.srcdir)
    found = [d for d in env.found_docs if moved != env.code_state and _has_code(env, d)]
    if app.builder.name == "html":
        for docname, microseconds in env.all_docs.items():
            page = Path(app.builder.get_outfilename(docname))
            if page.exists() and page.stat().st_mtime < microseconds / 1e6:
                found.append(docname)
    return sorted(set(found))


def execute_chapter(path, md_config, nb_config):
    """Seconds that executing a chapter took, or None if its outputs were in the cache."""
    from myst_nb.core.execute import create_client
    from myst_nb.core.read import create_nb_reader

    text, begin = Path(path).read_text(encoding="utf8"), time.time()
    reader = create_nb_reader(str(path), md_config, nb_config, text)
    log = logging.getLogger(__name__)
    with create_client(reader.read(text), str(path), nb_config, log, reader.read_fmt) as client:
        done = client.exec_metadata
    return done["runtime"] if done["mtime"] >= begin else None


def _execute_ahead(app, env, docnames):
    """Execute the chapters that Sphinx is about to read, several at a time."""
    work = [d for d in docnames if _has_code(env, d)]
    if not work:
        return
    list_fonts()
    jobs = int(os.environ.get("JOBS") or os.cpu_count() or 1)
    plain = env.mystnb_config.copy(execution_show_tb=False)
    with ThreadPoolExecutor(jobs) as pool:  # each waits for its kernel, which is a process
        futures = {}
        for docname in work:
            folder = cache_folder(app.srcdir, docname, env.code_state)
            config = plain.copy(execution_cache_path=str(folder))
            chapter = env.doc2path(docname), env.myst_config, config
            futures[pool.submit(execute_chapter, *chapter)] = docname
        for future in as_completed(futures):
            if future.exception() is None:
                seconds = future.result()
                told = "as executed before" if seconds is None else f"executed in {seconds:.1f} s"
                app.told.add(futures[future])
                print(f"{futures[future]}: {told}", flush=True)


def _choose_folder(app, docname, source):
    """Before a page is read: point the cache at the chapter's own folder."""
    if docname not in app.told and docname.startswith("chapters/"):
        print(f"{docname}: read", flush=True)
    if _has_code(app.env, docname):
        folder = cache_folder(app.srcdir, docname, app.env.code_state)
        app.env.mystnb_config = app.env.mystnb_config.copy(execution_cache_path=str(folder))


def setup(app):
    """Connect to Sphinx."""
    app.told = set()
    app.connect("env-get-outdated", _outdated)
    app.connect("env-before-read-docs", _execute_ahead)
    app.connect("source-read", _choose_folder)
    return {"parallel_read_safe": False}
