"""Digests follow meaning: configuration and code, not layout."""

from dataclasses import dataclass

import pytest
import torch

from paper import digests
from paper.digests import code_digest, config_digest, import_closure
from paper.store import encode
from learning_dynamics.scales.training import sgd


@dataclass(frozen=True)
class Config:
    width: int
    step_size: float = 0.1
    name: str | None = None


@dataclass(frozen=True)
class Other:
    width: int
    step_size: float = 0.1
    name: str | None = None


def test_equal_configs_have_equal_digests_and_others_differ():
    assert config_digest(Config(4)) == config_digest(Config(4, 0.1))
    different = [Config(4), Config(5), Config(4, 0.1 + 1e-17 + 2e-17), Config(4, 0.3), Other(4),
                 Config(4, 0.1, "a"), (Config(4),), {"a": Config(4)}, [Config(4), Config(4)]]
    seen = {config_digest(c) for c in different}
    assert len(seen) == len(different)


def test_the_digest_is_the_same_in_every_session():
    assert config_digest(Config(4)).startswith("50acb25e091c")


@pytest.mark.parametrize("bad", [torch.ones(2), float("nan"), Config, {1: 2}, object()])
def test_what_cannot_be_digested_faithfully_is_refused(bad, as_users_run):
    with pytest.raises(ValueError, match="config holds a|only finite"):
        config_digest(bad)


def test_the_closure_follows_imports_and_leaves_the_rest():
    names = set(import_closure(sgd))
    assert {"learning_dynamics.scales.training", "learning_dynamics.losses",
            "learning_dynamics.runtime", "learning_dynamics"} <= names
    assert not any("saddles" in n or "figures" in n for n in names)
    assert not any("scales" in n for n in import_closure(encode))


SOURCE = '''
"""A module."""
from learning_dynamics import runtime
def f(x):
    """Doc."""
    return x + 1  # note
'''


def load(path, source):
    path.write_text(source)
    namespace = {}
    import importlib.util

    spec = importlib.util.spec_from_file_location("tried", path)
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["tried"] = module
    try:
        spec.loader.exec_module(module)
        return code_digest(module.f), set(import_closure(module.f))
    finally:
        del sys.modules["tried"], namespace


def test_comments_and_docstrings_do_not_matter_but_code_does(tmp_path):
    base, closure = load(tmp_path / "a.py", SOURCE)
    assert "learning_dynamics.runtime" in closure
    same, _ = load(tmp_path / "b.py", SOURCE.replace("Doc.", "Other.").replace("# note", "\n"))
    other, _ = load(tmp_path / "c.py", SOURCE.replace("x + 1", "x + 2"))
    assert base == same != other


def test_a_change_in_an_imported_module_changes_the_digest(tmp_path, monkeypatch):
    base, _ = load(tmp_path / "a.py", SOURCE)
    real = digests.meaning
    monkeypatch.setattr(
        digests, "meaning", lambda s: real(s) + ("x = 1" if "def check_finite" in s else "")
    )
    changed, _ = load(tmp_path / "a.py", SOURCE)
    assert changed != base
