"""Typeset Sphinx's LaTeX, then complain about what failed, or went wrong without LaTeX failing.

    python _ext/check_pdf.py _build/latex

Figures must be vector files; XeTeX drops unknown glyphs and still succeeds, so the log is read
for "Missing character"; no line may stand out by more than `OVERFULL` points; no text of a Python
object may stand where a figure should.

LaTeX that was killed leaves half an auxiliary file, at which every later run would stop. A mark lies
in the folder while LaTeX runs; one that is found there tells to remove the auxiliary files first.
"""

import re
import subprocess
import sys
from pathlib import Path

from faults import report, unreadable

DOCUMENT, RUNNING = "learning_dynamics", ".latex-runs"
#: Points by which a line may stand out into the margin: less than the width of a letter.
OVERFULL = 5.0


def source_problems(source):
    """Faults that the LaTeX source shows: raster figures, object text."""
    images = re.findall(r"\\(?:sphinx)?includegraphics(?:\[[^]]*\])?\{\{(.*?)\}(\.\w+)\}", source)
    found = [f"figure {stem}{kind} is not a vector file" for stem, kind in images if kind != ".pdf"]
    return found + [f"the PDF shows {text!r}" for text in unreadable(source)]


def log_problems(log):
    """Faults that the log shows: what stopped LaTeX, lost glyphs, references, lines too wide."""
    found = re.findall(r"^(?:! .*|l\.\d+ .*|.*:\d+: .*)$", log, re.M)[:12]
    boxes = re.findall(r"^Overfull .hbox \(([\d.]+)pt too wide\) ?(.*)\n(.*)", log, re.M)
    found += [f"{p} pt too wide {at}: {what}" for p, at, what in boxes if float(p) > OVERFULL]
    lost = re.findall(r"Missing character: There is no (\S+)", log.replace("\n", " "))
    found += [f"character {letter} is missing in its font" for letter in sorted({*lost})]
    undefined = "There were undefined references"
    return found + ([undefined] if undefined in log else [])


def typeset(folder):
    """Run LaTeX; what latexmk said if it failed, else None."""
    running = folder / RUNNING
    latexmk, settings = ["latexmk", "-silent", f"{DOCUMENT}.tex"], {"cwd": folder, "text": True}
    if running.exists():
        subprocess.run([*latexmk, "-C"], check=True, capture_output=True, **settings)
    running.touch()
    # One run of latexmk may end with "no output" while references settle; it repeats by itself.
    command = [*latexmk, "-xelatex", "-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run(command, capture_output=True, errors="replace", **settings)
    running.unlink()
    return f"LaTeX failed: {done.stdout[-500:]}{done.stderr[-500:]}" if done.returncode else None


def problems(folder):
    """One sentence for each fault of the book that is typeset in `folder`."""
    source, log = (Path(folder, f"{DOCUMENT}.{kind}") for kind in ("tex", "log"))
    failed = typeset(Path(folder)) if source.exists() else f"{source} is missing"
    found = log_problems(log.read_text(errors="replace")) if log.exists() else []
    if failed:
        return [failed, *found]
    return source_problems(source.read_text(encoding="utf8")) + found


if __name__ == "__main__":
    sys.exit(report(problems, sys.argv[1]))
