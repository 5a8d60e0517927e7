"""Every key that is cited exists; every entry is cited; entries are complete."""

import re
from pathlib import Path

import pytest
from pybtex.database import parse_file

from labels import chapter_texts

ROOT = Path(__file__).parent.parent
ENTRIES = parse_file(ROOT / "references.bib").entries
TEXT = "".join(chapter_texts(ROOT).values())
GROUPS = [re.sub(r"\{[^}]*\}", "", group) for group in re.findall(r"\{cite:\w+\}`([^`]+)`", TEXT)]
CITED = {key.strip().rpartition("<")[2].rstrip(">") for group in GROUPS for key in group.split(",")}


def test_cited_keys_exist():
    assert CITED - set(ENTRIES) == set()


def test_entries_are_cited():
    assert set(ENTRIES) - CITED == set()


def test_no_key_twice():
    keys = re.findall(r"^@\w+\{([^,]+),", (ROOT / "references.bib").read_text(), re.M)
    assert len(keys) == len(set(keys)) == len(ENTRIES)


@pytest.mark.parametrize("key", sorted(ENTRIES))
def test_entry_is_complete(key):
    entry = ENTRIES[key]
    assert entry.persons.get("author") or entry.persons.get("editor")
    assert entry.fields.get("title")
    if not entry.fields["year"].startswith("thesis"):  # the theses print no year: their kind
        assert re.fullmatch(r"(19|20)\d\d", entry.fields["year"])


@pytest.mark.parametrize(("key", "name"), [("arata", "荒田 隼輝"), ("utsunomiya", "宇都宮 幸大")])
def test_the_theses_authors_stand_as_printed(key, name):
    assert ENTRIES[key].fields is not None
    assert f"author = {{{{{name}}}}}" in (ROOT / "references.bib").read_text()
