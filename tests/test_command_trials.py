"""The commands under bad conditions, in numbers for the Reproducibility page: nothing may break.

All trials build a small book whose path has spaces and letters beyond ASCII, with no network where
the system lends namespaces, and with proxies that lead nowhere elsewhere.
"""

import os
import random
import shutil
import subprocess
import time

import pytest

from audit_record import note
from counting import wait_for
from small_book import (
    COMPLAINT,
    articles,
    build,
    end,
    kill,
    make_book,
    shows,
    start,
    surroundings,
    write,
)

pytestmark = pytest.mark.audit

ODD = "ein Böok 本"


def namespace(*options):
    """A command prefix for mounts or a network of its own; None where the system lends none."""
    command = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), *options]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return [*command, "sh", "-c"]


@pytest.fixture(scope="module")
def offline():
    """A command prefix: no way to anywhere but to this machine itself, which kernels need."""
    prefix = namespace("--net")
    return [*prefix, 'ip link set lo up && exec "$@"', "sh"] if prefix else []


@pytest.fixture(scope="module")
def book(tmp_path_factory, offline):
    """A small book that has been built once, and the seconds that it took."""
    folder = make_book(tmp_path_factory.mktemp("trials") / ODD / "main")
    begin = time.monotonic()
    build(folder, "book", before=offline)
    return folder, time.monotonic() - begin


def test_kills_of_the_website(book, offline):
    """kill -9 at random moments of a build with a change to make; the next run makes it."""
    (folder, length), kills, made, stream = book, 3, 0, random.Random(0)
    for k in range(kills):
        write(folder, 1 + k)
        process = start(folder, "book")
        time.sleep(length * (k + stream.random()) / kills)
        kill(process)
        build(folder, "book", before=offline)
        made += shows(folder, 1 + k)
    note("make book killed", {"kills": kills, "pages right after the next run": made})
    assert made == kills
    after = articles(folder)
    for built in ("html", ".doctrees", "jupyter_execute"):
        shutil.rmtree(folder / "_build" / built)
    build(folder, "book", "notebooks", before=offline)
    assert after == articles(folder)


def test_a_home_that_cannot_be_written_to(book, offline):
    """Nothing depends on it; and a page that complains fails the build, but not the next one."""
    folder, _ = book
    write(folder, 21)
    build(folder, "book", before=offline, HOME="/proc/nowhere")
    assert shows(folder, 21)
    page = folder / "chapters" / "one.md"
    page.write_text(page.read_text() + COMPLAINT)
    status, told = end(start(folder, "book", before=offline, COMPLAINT="no home"))
    assert status != 0 and "stderr was found in the cell outputs" in told
    build(folder, "book", before=offline)
    assert shows(folder, 21)
    note("home that cannot be written to", {"builds": 3, "as they should end": 3})


@pytest.mark.skipif(not shutil.which("xelatex"), reason="no TeX")
def test_kills_of_latex(book, offline):
    """kill -9 while LaTeX writes; the next run prints the book."""
    (folder, _), kills, made, stream = book, 2, 0, random.Random(1)
    write(folder, 11)
    latex = folder / "_build" / "latex"
    for _ in range(kills):
        shutil.rmtree(latex, ignore_errors=True)
        process = start(folder, "pdf")
        wait_for((latex / "learning_dynamics.log").exists, 300)
        time.sleep(2 * stream.random())
        killed = kill(process)
        build(folder, "pdf", before=offline)
        printed = (latex / "learning_dynamics.pdf").read_bytes()
        made += killed and printed.rstrip().endswith(b"%%EOF")
    note("make pdf killed", {"kills": kills, "whole file after the next run": made})
    assert made == kills
    build(folder, "book", before=offline)  # the change was read for print; the pages show it too
    assert shows(folder, 11)


def test_two_builds_at_once(tmp_path, offline):
    """Two clones: each gets its own pages."""
    books = [make_book(tmp_path / ODD / name) for name in ("one", "two")]
    for state, folder in enumerate(books, 1):
        write(folder, state)
    ends = [end(process) for process in [start(folder, "book", before=offline) for folder in books]]
    assert [status for status, _ in ends] == [0, 0], ends
    right = sum(shows(folder, state) for state, folder in enumerate(books, 1))
    note("two builds at once", {"builds": len(books), "pages right": right})
    assert right == len(books)


def test_a_read_only_folder_is_refused_in_one_sentence(book):
    (folder, _), targets, told = book, ("book", "pdf", "test", "notebooks", "claims"), 0
    prefix = namespace("--mount")
    if prefix is None:
        pytest.skip("this system lends no mounts")
    mount = f"mount --bind '{folder}' '{folder}' && mount -o remount,ro,bind '{folder}' && cd '{folder}'"
    for target in targets:
        command = [*prefix, f'{mount} && exec make "$@"', "sh", target]
        options = {"cwd": folder, "text": True, "capture_output": True, "env": surroundings()}
        done = subprocess.run(command, **options)
        lines = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
        told += done.returncode != 0 and len(lines) == 1 and "cannot be written to" in lines[0]
    counts = {"commands": len(targets), "told in one sentence": told}
    note("folder that cannot be written to", counts)
    assert told == len(targets)
