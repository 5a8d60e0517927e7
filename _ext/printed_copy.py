"""The printed book beside the website, and the landing page's link to it, when it was made.

    python _ext/printed_copy.py _build

The landing page carries the link hidden. It is shown once the PDF lies beside the pages, whichever
of the two was built first; without a PDF nothing leads to one.
"""

import shutil
import sys
from pathlib import Path

from learning_dynamics.files import write_atomically

__all__ = ["place"]

NAME = "learning_dynamics.pdf"
LANDING = "chapters/index.html"
HIDDEN, SHOWN = '<p class="printed-copy" hidden>', '<p class="printed-copy">'


def place(build):
    """Copy the PDF of a `_build` folder into its site and show the link; True if it is there."""
    build = Path(build)
    made, landing = build / "latex" / NAME, build / "html" / LANDING
    if not landing.exists():
        return False
    target = build / "html" / NAME
    if made.exists():
        shutil.copyfile(made, target)
    text = landing.read_text(encoding="utf8")
    wanted = text.replace(HIDDEN, SHOWN) if target.exists() else text.replace(SHOWN, HIDDEN)
    if wanted != text:
        write_atomically(landing, wanted.encode())
    return target.exists()


def _finished(app, exception):
    if exception is None and app.builder.name == "html":
        place(Path(app.outdir).parent)


def setup(app):
    """Connect to Sphinx."""
    app.connect("build-finished", _finished)
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    place(sys.argv[1])
