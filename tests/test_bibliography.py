"""Every key that is cited exists; every entry is cited; entries are complete."""

import re
from pathlib import Path

import pytest
from pybtex.database import parse_file

from labels import chapter_texts

ROOT = Path(__file__).parent.parent
ENTRIES = parse_file(ROOT / "references.bib").entries
SOURCE = (ROOT / "references.bib").read_text()
TEXT = "".join(chapter_texts(ROOT).values())
GROUPS = [re.sub(r"\{[^}]*\}", "", group) for group in re.findall(r"\{cite:\w+\}`([^`]+)`", TEXT)]
CITED = {key.strip().rpartition("<")[2].rstrip(">") for group in GROUPS for key in group.split(",")}


def test_what_is_cited_exists_and_what_exists_is_cited_once():
    keys = re.findall(r"^@\w+\{([^,]+),", SOURCE, re.M)
    assert set(ENTRIES) == CITED and len(keys) == len(set(keys)) == len(ENTRIES)
    assert "author = {{荒田 隼輝}}" in SOURCE and "author = {{宇都宮 幸大}}" in SOURCE  # as printed


@pytest.mark.parametrize("key", sorted(ENTRIES))
def test_entry_is_complete(key):
    entry = ENTRIES[key]
    assert entry.persons.get("author") or entry.persons.get("editor")
    assert entry.fields.get("title")
    if not entry.fields["year"].startswith("thesis"):  # the theses print no year: their kind
        assert re.fullmatch(r"(19|20)\d\d", entry.fields["year"])
