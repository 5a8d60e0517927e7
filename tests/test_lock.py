"""The locks hold exact public versions; conda users get the same ones."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

import lock

ROOT = Path(__file__).parent.parent
HASHED = ("requirements-hashes.lock", "requirements-alone.lock", "requirements-bench.lock")
LOCKS = ("requirements.lock", *HASHED)
PIN = re.compile(r"[a-z0-9-]+==[0-9][0-9a-z.]*")


def pins(text):
    """The pins of a lock, without comments and digests."""
    lines = (line.removesuffix("\\").rstrip() for line in text.splitlines())
    return [
        line for line in lines if line and not line.lstrip().startswith(("#", "--hash=sha256:"))
    ]


def test_locks_hold_exact_public_versions_and_all_but_pytorch_have_digests():
    lists = {name: pins((ROOT / name).read_text()) for name in LOCKS}
    for name, lines in lists.items():
        assert lines and all(map(PIN.fullmatch, lines)), name
        assert len({line.split("==")[0] for line in lines}) == len(lines)
    for name in HASHED:
        parts = (ROOT / name).read_text().split("==")[1:]
        every = [part.split()[0] for part in parts if "--hash=sha256:" in part]
        assert every == [line.split("==")[1] for line in lists[name]]
    (torch,) = {*lists[LOCKS[0]]} - {*lists[LOCKS[1]]}
    assert torch.startswith("torch==") and not {*lists[LOCKS[1]]} - {*lists[LOCKS[0]]}


def test_the_locks_are_what_is_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "ROOT", tmp_path)
    monkeypatch.setattr(lock, "DIGESTS", "cat")  # PyPI may be out of reach
    lock.main()
    written = {path.name: pins(path.read_text()) for path in tmp_path.iterdir()}
    assert all(PIN.fullmatch(line) for lines in written.values() for line in lines)
    wanted = pins((ROOT / "requirements.lock").read_text())
    missing = {*wanted} - {*written["requirements.lock"]}
    assert not missing, f"{missing}: run `make distclean`, or `make lock`"


def test_lock_satisfies_pyproject():
    locked = dict(line.split("==") for name in LOCKS for line in pins((ROOT / name).read_text()))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    for requirement in (Requirement(line) for lines in lists for line in lines):
        name = requirement.name.lower().replace("_", "-")
        assert name in locked, f"{name} is not locked"
        assert requirement.specifier.contains(locked[name], prereleases=True), requirement
