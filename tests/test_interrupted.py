"""Interrupted commands: what tells that an installation or a run of LaTeX was cut short."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import check_pdf
from small_book import surroundings

ROOT = Path(__file__).parent.parent

#: Stands for Python: writes down how it was called; makes environments; is killed where told.
PYTHON = """#!/bin/sh
echo "$*" >> calls.txt
case "$*" in
  *"-m venv"*) rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  *"$KILL_AT"*) [ -z "$KILL_AT" ] || kill -9 0 ;;
esac
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with the Makefile and a false Python."""
    for name in ("Makefile", "pyproject.toml", *(p.name for p in ROOT.glob("requirements*.lock"))):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def make(folder, target, kill_at=""):
    """Exit status of make, and how Python was called."""
    calls = folder / "calls.txt"
    calls.write_text("")
    done = subprocess.run(
        ["make", f"PYTHON={folder}/python", target],
        cwd=folder,
        capture_output=True,
        start_new_session=True,
        env=surroundings(KILL_AT=kill_at),
    )
    return done.returncode, calls.read_text()


def age(folder):
    """Make the environment older than the lock."""
    os.utime(folder / ".venv" / ".installed", (1, 1))


def test_an_environment_is_made_once(folder):
    status, calls = make(folder, "environment")
    assert status == 0 and "venv --clear" in calls and "requirements.lock" in calls
    status, calls = make(folder, "environment")
    assert status == 0 and "venv" not in calls and "install" not in calls
    age(folder)
    status, calls = make(folder, "environment")
    assert status == 0 and "venv" not in calls and "install" in calls


@pytest.mark.parametrize(
    ("target", "lock"),
    [
        ("environment", "requirements.lock"),
        ("environment", "requirements-alone.lock"),
        ("environment", "--editable"),
        ("bench", "requirements-bench.lock"),
    ],
)
def test_an_installation_that_was_killed_starts_afresh(folder, target, lock):
    assert make(folder, target, kill_at=lock)[0] == -signal.SIGKILL
    status, calls = make(folder, target)
    assert status == 0 and "venv --clear" in calls and lock in calls


def test_a_change_of_the_lock_whose_installation_was_killed_starts_afresh(folder):
    assert make(folder, "environment")[0] == 0
    age(folder)
    assert make(folder, "environment", kill_at="requirements.lock")[0] == -signal.SIGKILL
    status, calls = make(folder, "environment")
    assert status == 0 and "venv --clear" in calls


#: Stands for latexmk: what LaTeX does to its auxiliary file, whole or not.
LATEXMK = """#!/bin/sh
case "$*" in
  *-C*) rm -f learning_dynamics.aux; exit ;;
esac
if [ -e learning_dynamics.aux ] && [ "$(cat learning_dynamics.aux)" != whole ]; then exit 12; fi
if [ -e kill ]; then echo hal > learning_dynamics.aux; kill -9 0; fi
echo whole > learning_dynamics.aux
"""


def test_latex_that_was_killed_starts_afresh(tmp_path):
    (tmp_path / "learning_dynamics.tex").touch()
    program = tmp_path / "latexmk"
    program.write_text(LATEXMK)
    program.chmod(0o755)

    def run():
        return subprocess.run(
            [sys.executable, check_pdf.__file__, str(tmp_path)],
            start_new_session=True,
            capture_output=True,
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        ).returncode

    assert run() == 0
    (tmp_path / "kill").touch()
    assert run() == -signal.SIGKILL
    (tmp_path / "kill").unlink()
    assert run() == 0
    assert run() == 0
