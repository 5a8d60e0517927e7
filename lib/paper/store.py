"""A folder of finished results: written atomically, checked when read, locked while computed.

Each result is one netCDF-4 (HDF5) file whose first 512 bytes, a block that HDF5 leaves to its
users, hold the length and the SHA-256 of the rest. Any netCDF tool can open it.
"""

import fcntl
import hashlib
import io
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from learning_dynamics.files import write_atomically

__all__ = ["DamagedResult", "Store", "decode", "encode"]

HEADER = 512
MARK = b"learning_dynamics result\n"


class DamagedResult(UserWarning):
    """A stored result was truncated or altered; it is set aside and computed again."""


def _own_lock() -> AbstractContextManager[object]:
    """Inside a Dask worker xarray would take a lock of the whole cluster to write to memory."""
    if "dask" not in sys.modules:
        return nullcontext()
    return sys.modules["dask"].config.set(scheduler="threads")


def encode(dataset: xr.Dataset) -> bytes:
    """`dataset` as a file's bytes: checksum block, then netCDF."""
    buffer = io.BytesIO()
    with _own_lock():
        dataset.to_netcdf(buffer, engine="h5netcdf")
    body = buffer.getvalue()
    head = MARK + f"{len(body)} {hashlib.sha256(body).hexdigest()}\n".encode()
    return head.ljust(HEADER, b"\0") + body


def decode(data: bytes) -> xr.Dataset:
    """The dataset in a file's bytes. Raises ValueError, saying what is wrong, if damaged."""
    head, body = data[:HEADER], data[HEADER:]
    match = re.fullmatch(re.escape(MARK) + rb"(\d+) ([0-9a-f]{64})\n\0*", head)
    if len(head) < HEADER or match is None:
        raise ValueError("no valid checksum block")
    size = int(match[1])
    if len(body) != size:
        raise ValueError(f"{len(body)} bytes where {size} were written")
    if hashlib.sha256(body).hexdigest() != match[2].decode():
        raise ValueError("the checksum does not match the content")
    with xr.open_dataset(io.BytesIO(body), engine="h5netcdf") as dataset:
        return dataset.load()


@dataclass(frozen=True)
class Store:
    """Results in `folder` by key. Several processes and machines may share the folder.

    Locks are the operating system's (flock): they vanish with the process that holds them.
    """

    folder: Path

    def path(self, key: str) -> Path:
        """The file of a key: letters, digits, - and _ only."""
        if not re.fullmatch(r"[A-Za-z0-9_-]+", key):
            raise ValueError(f"key = {key!r}: allowed are letters, digits, - and _")
        return Path(self.folder) / f"{key}.nc"

    def __contains__(self, key: str) -> bool:
        """Whether a result is stored; it is checked only when read."""
        return self.path(key).is_file()

    def keys(self) -> list[str]:
        """The keys of all stored results, sorted."""
        return sorted(p.stem for p in Path(self.folder).glob("*.nc"))

    def get(self, key: str) -> xr.Dataset | None:
        """The result of `key`, None if there is none or it is damaged.

        A damaged file is renamed to <key>.damaged and a `DamagedResult` warning says why.
        """
        path = self.path(key)
        try:
            return decode(path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValueError, OSError) as error:
            warnings.warn(
                f"{path.name} is damaged ({error}); it is set aside as {key}.damaged and "
                "will be computed again",
                DamagedResult,
                stacklevel=2,
            )
            path.replace(path.with_suffix(".damaged"))
            return None

    def put(self, key: str, dataset: xr.Dataset) -> None:
        """Store a result, replacing any older one."""
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        write_atomically(self.path(key), encode(dataset))

    @contextmanager
    def lock(self, *keys: str) -> Iterator[None]:
        """Hold these keys; waits while another sweep computes one of them.

        Taken in sorted order, so that two sweeps never wait for each other. What a killed
        writer of these keys left behind is removed.
        """
        locks = Path(self.folder) / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            for key in sorted(set(keys)):
                file = stack.enter_context(open(locks / self.path(key).stem, "w"))
                fcntl.flock(file, fcntl.LOCK_EX)
                for part in Path(self.folder).glob(f"{key}.nc.*.part"):
                    part.unlink(missing_ok=True)
            yield
