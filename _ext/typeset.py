"""Run LaTeX over Sphinx's output and say briefly what went wrong."""

import re
import subprocess
import sys
from pathlib import Path

DOCUMENT = "learning_dynamics"


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
    # One run of latexmk may end with "no output" while references settle; it repeats by itself.
    command = ["latexmk", "-xelatex", "-interaction=nonstopmode", "-halt-on-error", "-silent",
               f"{DOCUMENT}.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    log_file = folder / f"{DOCUMENT}.log"
    log = log_file.read_text(errors="replace") if log_file.exists() else done.stderr
    if done.returncode:
        print("LaTeX failed:", *(errors(log) or [done.stdout[-2000:]]), sep="\n  ", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
