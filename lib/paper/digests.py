"""What a result depends on: a digest of its configuration and one of the code behind it."""

import ast
import dataclasses
import hashlib
import inspect
import json
import math
import platform
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import learning_dynamics
from paper.sources import meaning

__all__ = ["canonical", "code_digest", "config_digest", "import_closure", "provenance"]

PACKAGES = ("learning_dynamics", "paper")
ROOT = Path(learning_dynamics.__file__).parents[1]


def canonical(value: Any) -> Any:
    """`value` as plain JSON data: dataclasses by class name and fields, tuples as lists.

    Allowed are frozen dataclasses, str, bool, int, finite float, None, and tuples, lists and
    string-keyed dicts of them. Raises ValueError for anything else: it could not be digested
    faithfully.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: canonical(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class": type(value).__qualname__, **fields}
    if isinstance(value, tuple | list):
        return [canonical(v) for v in value]
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {k: canonical(v) for k, v in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"config holds {value}: only finite numbers can be digested")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError(
        f"config holds a {type(value).__name__}: allowed are dataclasses, strings, numbers, "
        "None, tuples, lists and dicts of them"
    )


def config_digest(config: Any) -> str:
    """SHA-256 (hex) of a configuration; equal configurations give equal digests anywhere."""
    text = json.dumps(canonical(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _file_of(module: str) -> Path | None:
    """The source file of one of our modules, None if there is none of that name."""
    if module.split(".")[0] not in PACKAGES:
        return None
    path = ROOT.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file() and (module not in PACKAGES or candidate.name == "__init__.py"):
            return candidate
    return None


def _imports(tree: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """Names of our modules that a source file imports, anywhere in it."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, base] if base else parts)
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        for name in names:
            while name:  # importing a.b.c runs a and a.b as well
                if _file_of(name):
                    yield name
                name = name.rpartition(".")[0]


def import_closure(function: Callable[..., Any]) -> dict[str, Path]:
    """Module name -> source file: the module of `function` and all of ours that it imports."""
    name = inspect.unwrap(function).__module__
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:
        raise ValueError(f"function = {function!r}: has no source file to digest")
    found: dict[str, Path] = {}
    todo = [(name, Path(file))]
    while todo:
        name, path = todo.pop()
        if name in found:
            continue
        found[name] = path
        tree = ast.parse(path.read_text())
        for other in _imports(tree, name, path.name == "__init__.py"):
            source = _file_of(other)
            if other not in found and source is not None:
                todo.append((other, source))
    return dict(sorted(found.items()))


@cache
def code_digest(function: Callable[..., Any]) -> str:
    """SHA-256 (hex) of the code that `function` depends on.

    Its module and the import closure inside this package, without comments and docstrings.
    A result computed by other code gets another digest, and so another key.
    """
    digest = hashlib.sha256()
    for name, path in import_closure(function).items():
        label = name if _file_of(name) else "caller"  # a script's name is not its meaning
        digest.update(f"{label}\0{meaning(path.read_text())}\0".encode())
    return digest.hexdigest()


def provenance() -> dict[str, str]:
    """What a result was computed with: versions and the kind of machine (no names)."""
    return {
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "torch": version("torch").split("+")[0],
        "machine": f"{platform.system()} {platform.machine()}",
    }
