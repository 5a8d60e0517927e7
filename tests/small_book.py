"""The site of one page, built with this book's configuration; the environment of a shell."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def surroundings(**more):
    """The environment of a shell: what a `make` that runs these tests tells its children is taken out."""
    of_make = ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS")
    return {name: value for name, value in os.environ.items() if name not in of_make} | more


def one_page(folder, text, address):
    """The site of one page, built with this book's configuration; warnings are errors."""
    for name in ("_ext", "_static"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "references.bib", folder)
    config = (ROOT / "_config.yml").read_text()
    assert '  url: ""' in config
    (folder / "_config.yml").write_text(config.replace('  url: ""', f'  url: "{address}"'))
    (folder / "_toc.yml").write_text("format: jb-book\nroot: page\n")
    head = (ROOT / "chapters/index.md").read_text().split("```")[0]
    (folder / "page.md").write_text(head + "# Page\n\n" + text)
    command = [Path(sys.executable).with_name("jupyter-book"), "build", ".", "-n", "-W"]
    done = subprocess.run([*command, "--keep-going"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "_build" / "html"
