"""Writing files so that nothing is lost when a machine stops."""

import os
import uuid
from pathlib import Path

from filelock import FileLock

__all__ = ["held", "write_atomically"]


def held(path: Path) -> FileLock:
    """The lock under which several processes replace one file in turn, for `with`.

    It lies beside the file under a name that no code can take for data: `.NAME.held`. Raises
    ValueError if it is a link, because opening it would empty what it leads to.
    """
    lock = path.with_name(f".{path.name}.held")
    if lock.is_symlink():
        raise ValueError(f"{lock} is a symbolic link: allowed is a file of its own; remove it")
    return FileLock(lock)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is either wholly there or not there, whenever the machine stops."""
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
