"""Complain about what went wrong in the PDF without LaTeX failing.

Figures must be vector files; XeTeX drops unknown glyphs and still succeeds, so the log is read
for "Missing character"; no line may stand out by more than `OVERFULL` points; no text of a Python
object may stand where a figure should.
"""

import re
import sys
from pathlib import Path

from faults import report, unreadable
from typeset import DOCUMENT, missing_characters

__all__ = ["OVERFULL", "problems"]

#: Points by which a line may stand out into the margin: less than the width of a letter.
OVERFULL = 5.0


def source_problems(source):
    """Faults that the LaTeX source shows: raster figures, object text."""
    images = re.findall(r"\\(?:sphinx)?includegraphics(?:\[[^]]*\])?\{\{(.*?)\}(\.\w+)\}", source)
    names = [stem + suffix for stem, suffix in images]
    found = [f"figure {name} is not a vector file" for name in names if not name.endswith(".pdf")]
    return found + [f"the PDF shows {text!r}" for text in unreadable(source)]


def overfull_lines(log):
    """(points, where, what) of every line that stands out by more than `OVERFULL`."""
    boxes = re.findall(r"^Overfull .hbox \(([\d.]+)pt too wide\) ?(.*)\n(.*)", log, re.M)
    return [
        (float(points), where, what[:90])
        for points, where, what in boxes
        if float(points) > OVERFULL
    ]


def log_problems(log):
    """Faults that the log shows: lost glyphs, undefined references, lines too wide."""
    found = [
        f"{points:.1f} pt too wide {where}: {what}" for points, where, what in overfull_lines(log)
    ]
    found += [
        f"character {character} is missing in its font" for character in missing_characters(log)
    ]
    if re.search(r"There were undefined references", log):
        found.append("there are undefined references")
    return found


def problems(folder):
    """One sentence for each fault of a typeset book in `folder`."""
    folder = Path(folder)
    pdf = folder / f"{DOCUMENT}.pdf"
    if not pdf.exists() or not pdf.read_bytes().startswith(b"%PDF"):
        return [f"{pdf} is missing"]
    source = (folder / f"{DOCUMENT}.tex").read_text(encoding="utf8")
    log = (folder / f"{DOCUMENT}.log").read_text(errors="replace")
    return source_problems(source) + log_problems(log)


def main(folder):
    """Print the faults; 1 if there is any."""
    return report(problems, folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
