"""The locks hold exact public versions; conda users get the same ones."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
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


def unfit(line):
    """True unless a line is one exact public version."""
    return PIN.fullmatch(line) is None


@pytest.mark.parametrize("name", LOCKS)
def test_exact_public_versions_only(name):
    lines = pins((ROOT / name).read_text())
    assert lines
    assert not [line for line in lines if unfit(line)]
    names = [line.split("==")[0] for line in lines]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", HASHED)
def test_every_pin_that_pip_installs_has_digests(name):
    text = (ROOT / name).read_text()
    every = [part.split()[0] for part in text.split("==")[1:] if "--hash=sha256:" in part]
    assert every == [line.split("==")[1] for line in pins(text)]


def test_only_pytorch_has_no_digests():
    plain, hashed = (set(pins((ROOT / name).read_text())) for name in LOCKS[:2])
    (torch,) = plain - hashed
    assert torch.startswith("torch==") and not hashed - plain


FORBIDDEN = ["torch==2.13.0+cpu", "--index-url https://example.org/simple", "-f wheels", "-e ."]
FORBIDDEN += ["numpy>=2", "numpy", "x @ file:///tmp/x.whl", "./wheels/x.whl"]


@pytest.mark.parametrize("line", FORBIDDEN)
def test_what_a_lock_must_not_hold(line):
    assert unfit(line)


def test_conda_users_get_the_lock():
    content = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [entry["pip"] for entry in content["dependencies"] if isinstance(entry, dict)]
    assert pip == ["-r requirements.lock", "--editable ."]


def test_the_locks_are_what_is_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "ROOT", tmp_path)
    monkeypatch.setattr(lock, "DIGESTS", "cat")  # PyPI may be out of reach
    lock.main()
    for name in LOCKS:
        told = pins((tmp_path / name).read_text()) if (tmp_path / name).exists() else []
        assert not [line for line in told if unfit(line)]
    names = [line.split("==")[0] for line in pins((tmp_path / "requirements.lock").read_text())]
    assert "torch" in names and not {"pip", "mup", "jax", "uv"} & set(names)


def test_lock_satisfies_pyproject():
    locked = dict(line.split("==") for name in LOCKS for line in pins((ROOT / name).read_text()))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    for requirement in (Requirement(line) for lines in lists for line in lines):
        name = requirement.name.lower().replace("_", "-")
        assert name in locked, f"{name} is not locked"
        assert requirement.specifier.contains(locked[name], prereleases=True), requirement


def test_installed_versions_are_the_locked_ones():
    for line in pins((ROOT / "requirements.lock").read_text()):
        name, wanted = line.split("==")
        found = version(name).split("+")[0]
        assert found == wanted, f"{name}: run `make distclean`, or `make lock`"
