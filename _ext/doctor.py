"""One sentence, not a traceback, when the machine lacks something.

Called by the Makefile as `python doctor.py place python home book tex`: each word is one check. Written for
any Python, because an old one must be able to read it.
"""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OLDEST = (3, 11)
TEX_PACKAGES = (
    "texlive-xetex texlive-latex-extra texlive-fonts-recommended tex-gyre latexmk lmodern "
    "fonts-noto-cjk fonts-dejavu-core"
)


def check_place(root=ROOT, access=os.access):
    """None, or what to do when this folder or what was built in it cannot be written to."""
    for folder in (root, os.path.join(root, "_build")):
        if os.path.exists(folder) and not access(folder, os.W_OK):
            return (
                "%s cannot be written to, and everything is built inside it: copy or clone the book "
                "to a folder of your own and run make there." % folder
            )
    return None


def check_python(version=None):
    """None, or what to do when this Python is too old."""
    version = tuple(sys.version_info[:3]) if version is None else version
    if version >= OLDEST:
        return None
    return (
        "Python %s is too old: install Python 3.11 or newer and run `make PYTHON=python3.11 ...`."
        % (".".join(map(str, version)),)
    )


def check_home(origin=None):
    """None, or what to do when this environment was made for another folder, or for this one elsewhere."""
    if origin is None:
        from importlib.util import find_spec

        spec = find_spec("learning_dynamics")
        origin = (spec and spec.origin) or ""
    if os.path.realpath(origin).startswith(os.path.join(os.path.realpath(ROOT), "")):
        return None
    return (
        "The environment in .venv was not made for %s: run `make distclean` and try again." % ROOT
    )


def check_book(version=None):
    """None, or what to do when the installed Jupyter Book cannot read this book."""
    if version is None:
        from importlib.metadata import PackageNotFoundError
        from importlib.metadata import version as installed

        try:
            version = installed("jupyter-book")
        except PackageNotFoundError:
            return "Jupyter Book is not installed in .venv: run `make distclean` and try again."
    if version.split(".")[0] == "1":
        return None
    return (
        "Jupyter Book %s cannot read this book, which needs version 1.x: run `make distclean` to "
        "build the environment anew from requirements.lock." % version
    )


def check_tex(which=None):
    """None, or what to install when TeX is missing."""
    if which is None:
        from shutil import which
    missing = [program for program in ("xelatex", "latexmk") if not which(program)]
    if not missing:
        return None
    return (
        "The PDF needs TeX, but %s is missing: install it, on Debian or Ubuntu with `apt-get install %s`."
        % (" and ".join(missing), TEX_PACKAGES)
    )


CHECKS = {
    "place": check_place,
    "python": check_python,
    "home": check_home,
    "book": check_book,
    "tex": check_tex,
}


def main(words):
    """Print the first complaint and return 1; 0 if all is well."""
    for word in words:
        complaint = CHECKS[word]()
        if complaint:
            print(complaint, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
