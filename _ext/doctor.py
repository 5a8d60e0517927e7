"""One sentence, not a traceback, when the machine lacks something.

Called by the Makefile as `python doctor.py place python home tex`: each word is one check. Any
Python must be able to read it, also one that is too old.
"""

import os
import shutil
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
AGAIN = ": run `make distclean` and try again."
PLACE = "%s cannot be written to: copy the book to a folder of your own and run make there."
OLD = "Python %s is too old: install Python 3.11 or newer and run `make PYTHON=python3.11 ...`."
TEX = """The PDF needs xelatex and latexmk: on Debian or Ubuntu run `apt-get install texlive-xetex
texlive-latex-extra texlive-fonts-recommended tex-gyre latexmk lmodern fonts-noto-cjk
fonts-dejavu-core`.""".replace("\n", " ")


def complaint(check):
    """What to do about something that is not as it must be; None if it is."""
    built = [folder for folder in (ROOT, os.path.join(ROOT, "_build")) if os.path.exists(folder)]
    if check == "place" and not all(os.access(folder, os.W_OK) for folder in built):
        return PLACE % ROOT
    if check == "python" and sys.version_info < (3, 11):
        return OLD % sys.version.split()[0]
    if check == "tex" and not (shutil.which("xelatex") and shutil.which("latexmk")):
        return TEX
    if check == "home":
        from importlib.metadata import version
        from importlib.util import find_spec

        spec = find_spec("learning_dynamics")
        home = os.path.realpath(spec.origin if spec else os.sep)
        if not home.startswith(os.path.realpath(ROOT) + os.sep):
            return "The environment in .venv was not made for " + ROOT + AGAIN
        if not version("jupyter-book").startswith("1."):
            return "This book needs Jupyter Book 1.x" + AGAIN
    return None


if __name__ == "__main__":
    found = [told for told in map(complaint, sys.argv[1:]) if told]
    sys.exit(found[0] if found else 0)
