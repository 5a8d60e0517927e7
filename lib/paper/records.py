"""Records of heavy runs, committed under results/ with checksum and provenance."""

from pathlib import Path

import xarray as xr

from paper.store import decode, encode
from learning_dynamics.files import write_atomically

__all__ = ["RESULTS", "read_record", "write_record"]

#: The repository's folder of records.
RESULTS = Path(__file__).resolve().parents[2] / "results"


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
