"""What tests are given beside their code, in `given/`: tables of cases, pages and scripts."""

from pathlib import Path

import yaml

FOLDER = Path(__file__).parent / "given"


def text(name):
    """A file as text."""
    return (FOLDER / name).read_text(encoding="utf8")


def table(name):
    """A table of cases."""
    return yaml.safe_load(text(f"{name}.yml"))
