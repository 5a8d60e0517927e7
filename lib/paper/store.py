"""A folder of finished results: written atomically, checked when read, locked while computed.

A result is identified by the name of its experiment, its configuration as canonical JSON and a
version. Its file carries all three, and the name of the function that computed it.
"""

import hashlib
import json
import sys
import warnings
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr

from learning_dynamics.files import naming, write_atomically
from paper.records import Damage, decode_with_notes

__all__ = ["DamagedResult", "Key", "Store", "canonical", "qualified"]


class DamagedResult(UserWarning):
    """A stored result was cut short, altered or exchanged; it will be computed again."""


class Key(NamedTuple):
    """What a result is: name, version and canonical configuration; and the function behind it."""

    name: str
    version: int
    config: str
    function: str


def qualified(thing: Any) -> str:
    """module.name of a function or class; a script's module is the name of its file."""
    module = thing.__module__
    if module in ("__main__", "__mp_main__"):  # the latter in a process that the script started
        module = Path(getattr(sys.modules[module], "__file__", module)).stem
    return f"{module}.{thing.__qualname__}"


def _plain(value: Any, where: str) -> Any:
    """`value` as JSON data; ValueError if another value would become the same data."""
    kind = type(value)
    if kind in (str, bool, int, type(None)) or (kind is float and abs(value) < float("inf")):
        return value
    if kind in (list, tuple):
        return [_plain(v, f"{where}[{i}]") for i, v in enumerate(value)]
    if kind is dict and all(type(k) is str and k[:1] != "@" for k in value):
        return {k: _plain(v, f"{where}[{k!r}]") for k, v in value.items()}
    if is_dataclass(kind) and kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]  # typeshed lacks it
        own = {f.name: getattr(value, f.name) for f in fields(kind)}
        return {f"@{qualified(kind)}": {k: _plain(v, f"{where}.{k}") for k, v in own.items()}}
    raise ValueError(
        f"{where} = {repr(value)[:60]} of {kind}: allowed are str, bool, int, finite float, None, "
        "tuples, lists, frozen dataclasses, dicts with text as keys that does not start with @"
    )


def canonical(config: Any) -> str:
    """A configuration as canonical JSON: tuples as lists, {"@class": fields}, sorted keys.

    Raises ValueError, naming it, for whatever this would not tell apart from something else.
    """
    return json.dumps(_plain(config, "config"), sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True)
class Store:
    """Results in `folder` by key. Several processes and machines may share the folder.

    Who writes a result holds its file (`files.hold`). An OSError names the file and what was tried
    with it; it is never taken for damage.
    """

    folder: Path | str

    def path(self, key: Key) -> Path:
        """The file of a key."""
        digest = hashlib.sha256(key.config.encode()).hexdigest()[:20]
        return Path(self.folder) / f"{key.name}-v{key.version}-{digest}.nc"

    def get(self, key: Key, *, set_aside: bool = False) -> xr.Dataset | None:
        """The result of `key`; None if there is none or, with a warning, if it is damaged.

        set_aside : rename a damaged file to .damaged; for who holds the file.
        Raises ValueError if another function has stored its result under this key.
        """
        path = self.path(key)
        try:
            with naming(path, "read"):
                data = path.read_bytes()
            dataset, notes = decode_with_notes(data)
            held = Key(**notes.get("key", dict.fromkeys(Key._fields, "")))
            if held[:3] != key[:3]:
                raise Damage(f"holds another result: {held}")
        except FileNotFoundError:
            return None
        except Damage as error:
            if set_aside:
                path.replace(path.with_suffix(".damaged"))
            text = f"{path} is damaged: {error}; it is set aside as .damaged and computed again"
            warnings.warn(text, DamagedResult, stacklevel=2)
            return None
        if held.function != key.function:
            raise ValueError(
                f"name = {key.name!r}, version = {key.version}: {path} holds a result of "
                f"{held.function}; {key.function} needs another name or version"
            )
        return dataset

    def put(self, key: Key, data: bytes) -> None:
        """Store the encoded result of `key`, replacing any older one."""
        path = self.path(key)
        with naming(path, "write"):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data)
