"""Datasets as files that give them back as they were, and the records committed under results/.

A file is netCDF-4 (HDF5), so that any netCDF tool can open it; its first 512 bytes, a block that
HDF5 leaves to its users, hold the length and the SHA-256 of the rest. What netCDF's conventions
would reinterpret (attributes, types, which variables are coordinates) stands in one JSON text, the
file's attribute `learning_dynamics`.
"""

import hashlib
import io
import json
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5netcdf
import h5py
import numpy as np
import torch
import xarray as xr

from learning_dynamics.files import write_atomically

__all__ = [
    "RESULTS",
    "Damage",
    "decode",
    "decode_with_notes",
    "encode",
    "provenance",
    "read_record",
    "write_record",
]

#: The repository's folder of records.
RESULTS = Path(__file__).resolve().parents[2] / "results"

LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn")
HEADER = 512
MARK = b"learning_dynamics result\n"
NOTES = "learning_dynamics"
HELD_AS = {"U": np.dtype(object), "b": np.dtype("i1")}  # text and truth values, in the file


class Damage(ValueError):
    """The bytes are not those that were written, or are those of another result."""


def _check_attributes(attributes: dict[Any, Any]) -> dict[Any, Any]:
    """The attributes, if JSON gives each of them back as it is; repr shows types, -0.0 and NaN."""
    for name, value in attributes.items():
        try:
            same = repr(json.loads(json.dumps({name: value}))) == repr({name: value})
        except (TypeError, ValueError):
            same = False
        if not same:
            raise ValueError(f"JSON cannot hold its attribute {name!r} = {repr(value)[:60]}")
    return attributes


def encode(dataset: xr.Dataset, notes: Mapping[str, Any] | None = None) -> bytes:
    """`dataset` as a file's bytes: checksum block, then netCDF; `notes` stand beside it.

    It comes back as it was, but for encodings: types, bits, attributes, coordinates, indexes.
    Raises ValueError, naming the variable or attribute, if it would not.
    """
    if type(dataset) is not xr.Dataset:
        raise ValueError(f"a result is an xarray.Dataset, not {type(dataset)}")
    where, buffer, variables = "the dataset", io.BytesIO(), dataset.variables
    try:
        notes = {"attributes": _check_attributes(dataset.attrs), "variables": {}, **(notes or {})}
        with h5netcdf.File(buffer, "w") as file:
            file.dimensions = dict(dataset.sizes)
            for name, v in variables.items():
                where = f"variable {name!r} ({v.dtype})"
                entry = [v.dtype.str, name in dataset.coords, _check_attributes(v.attrs)]
                notes["variables"][name] = entry
                data = v.values.astype(HELD_AS.get(v.dtype.kind, v.dtype))
                kind = h5py.string_dtype() if v.dtype.kind == "U" else data.dtype
                file.create_variable(name, v.dims, kind, data=data)
            file.attrs[NOTES] = json.dumps(notes)
        body = buffer.getvalue()
        head = MARK + f"{len(body)} {hashlib.sha256(body).hexdigest()}\n".encode()
        back = decode(head.ljust(HEADER, b"\0") + body)
        for name, v in variables.items():
            where, w = f"variable {name!r} ({v.dtype})", back.variables[name]
            if (v.dims, v.dtype, v.values.tobytes()) != (w.dims, w.dtype, w.values.tobytes()):
                raise ValueError("it would come back changed")
            if type(dataset.xindexes.get(name)) is not type(back.xindexes.get(name)):
                raise ValueError("its index would be lost or changed")
    except Exception as error:  # whatever HDF5, netCDF or JSON cannot do
        raise ValueError(f"{where} cannot be stored: {error}") from error
    return head.ljust(HEADER, b"\0") + body


def decode_with_notes(data: bytes) -> tuple[xr.Dataset, dict[str, Any]]:
    """The dataset in a file's bytes and what stands beside it."""
    match = re.fullmatch(re.escape(MARK) + rb"(\d+) ([0-9a-f]{64})\n\0*", data[:HEADER])
    body = data[HEADER:]
    if len(data) < HEADER or match is None:
        raise Damage("no valid checksum block")
    if len(body) != int(match[1]):
        raise Damage(f"{len(body)} bytes where {int(match[1])} were written")
    if hashlib.sha256(body).hexdigest() != match[2].decode():
        raise Damage("the checksum does not match the content")
    with xr.open_dataset(io.BytesIO(body), engine="h5netcdf") as file:
        dataset = file.load()
    notes = json.loads(dataset.attrs.pop(NOTES, "{}"))
    if notes:  # a record written before there were any is plain netCDF
        parts: list[dict[str, tuple[Any, ...]]] = [{}, {}]  # variables, coordinates
        for name, (dtype, coordinate, attributes) in notes["variables"].items():
            v = dataset.variables[name]
            parts[coordinate][name] = (v.dims, v.values.astype(dtype), attributes)
        dataset = xr.Dataset(parts[0], parts[1], notes["attributes"])
    return dataset, notes


def decode(data: bytes) -> xr.Dataset:
    """The dataset in a file's bytes. Raises `Damage`, a ValueError that says what is wrong."""
    return decode_with_notes(data)[0]


def provenance() -> dict[str, str]:
    """What a result was computed with: versions and the kind of machine (no names)."""
    return {
        "python": platform.python_version(),
        **{name: version(name).split("+")[0] for name in LIBRARIES},
        "machine": f"{platform.system()} {platform.machine()}",
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def write_record(name: str, dataset: xr.Dataset, *, folder: Path = RESULTS) -> Path:
    """Write results/<name>.nc atomically; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.nc"
    write_atomically(path, encode(dataset))
    return path


def read_record(name: str, *, folder: Path = RESULTS) -> xr.Dataset:
    """The record called `name`; its attributes say how and with what it was computed.

    Raises ValueError if it is missing or damaged.
    """
    path = folder / f"{name}.nc"
    try:
        return decode(path.read_bytes())
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in folder.glob("*.nc"))) or "none"
        raise ValueError(f"record {name!r} is not in {folder.name}/: there are {known}") from None
    except ValueError as error:
        raise ValueError(f"record {name!r} is damaged: {error}") from None
