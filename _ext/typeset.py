"""Run LaTeX over Sphinx's output and say briefly what went wrong.

LaTeX that was killed leaves half an auxiliary file, at which every later run would stop. A mark lies
in the folder while LaTeX runs; one that is found there tells to remove the auxiliary files first.
"""

import re
import subprocess
import sys
from pathlib import Path

DOCUMENT = "learning_dynamics"
RUNNING = ".latex-runs"


def errors(log):
    """The lines of a LaTeX log that tell what failed."""
    found = re.findall(r"^(?:! .*|l\.\d+ .*|.*:\d+: .*)$", log, re.M)
    return found[:12]


def missing_characters(log):
    """XeTeX drops unknown glyphs and still succeeds; these are the lost ones."""
    return sorted(set(re.findall(r"Missing character: There is no (\S+)", log.replace("\n", " "))))


def main(folder):
    """Typeset; 0 if all is well."""
    folder = Path(folder)
    running = folder / RUNNING
    if running.exists():
        subprocess.run(
            ["latexmk", "-C", "-silent", f"{DOCUMENT}.tex"],
            cwd=folder,
            check=True,
            capture_output=True,
        )
    running.touch()
    # One run of latexmk may end with "no output" while references settle; it repeats by itself.
    command = [
        "latexmk",
        "-xelatex",
        "-interaction=nonstopmode",
        "-halt-on-error",
        "-silent",
        f"{DOCUMENT}.tex",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    running.unlink()
    log_file = folder / f"{DOCUMENT}.log"
    log = log_file.read_text(errors="replace") if log_file.exists() else done.stderr
    if done.returncode:
        print("LaTeX failed:", *(errors(log) or [done.stdout[-2000:]]), sep="\n  ", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
