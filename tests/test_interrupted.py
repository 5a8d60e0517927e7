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
from tables import text

ROOT = Path(__file__).parent.parent

#: Stands for Python: writes down how it was called; makes environments; is killed where told.
PYTHON = text("python.sh")


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
    command = ["make", f"PYTHON={folder}/python", target]
    options = {"cwd": folder, "capture_output": True, "start_new_session": True}
    done = subprocess.run(command, env=surroundings(KILL_AT=kill_at), **options)
    return done.returncode, calls.read_text()


def age(folder):
    """Make the environment older than the lock."""
    os.utime(folder / ".venv" / ".installed", (1, 1))


def test_an_environment_is_made_once(folder):
    for aged, said in ((False, "venv --clear"), (False, None), (True, "requirements.lock")):
        if aged:
            age(folder)
        status, calls = make(folder, "environment")
        assert status == 0 and ("--clear" in calls) == (said == "venv --clear")
        assert ("install" in calls) == (said is not None)


@pytest.mark.parametrize("kill_at", ["requirements.lock", "--editable", "-bench"])
def test_an_installation_that_was_killed_starts_afresh(folder, kill_at):
    """The first one, and one after a change of the lock."""
    target = "bench" if kill_at == "-bench" else "environment"
    for _ in range(2):
        assert make(folder, target, kill_at)[0] == -signal.SIGKILL
        status, calls = make(folder, target)
        assert status == 0 and "venv --clear" in calls and kill_at in calls
        age(folder)


#: Stands for latexmk: what LaTeX does to its auxiliary file, whole or not.
LATEXMK = text("latexmk.sh")


def test_latex_that_was_killed_starts_afresh(tmp_path):
    (tmp_path / "learning_dynamics.tex").touch()
    program = tmp_path / "latexmk"
    program.write_text(LATEXMK)
    program.chmod(0o755)

    def run():
        command = [sys.executable, check_pdf.__file__, str(tmp_path)]
        own = {"env": os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}}
        return subprocess.run(
            command, start_new_session=True, capture_output=True, **own
        ).returncode

    assert run() == 0
    (tmp_path / "kill").touch()
    assert run() == -signal.SIGKILL
    (tmp_path / "kill").unlink()
    assert run() == run() == 0
