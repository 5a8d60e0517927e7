"""Files that several processes write: whole or absent, one writer at a time, faults named."""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock

__all__ = ["hold", "naming", "write_atomically"]


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


@contextmanager
def naming(path: Path, doing: str) -> Iterator[None]:
    """An OSError inside is raised with the name of the file and what was tried with it."""
    try:
        yield
    except OSError as error:
        reason = f"cannot {doing}: {error.strerror or error}"
        raise OSError(error.errno or errno.EIO, reason, str(path)) from error


@contextmanager
def hold(*paths: Path) -> Iterator[None]:
    """Hold the right to write these files; waits while another process holds one of them.

    The locks lie in a folder `locks` beside the files and are the operating system's (flock):
    they vanish with the process. They are taken in sorted order, so that two processes never wait
    for each other. What a killed writer left behind is removed. Raises OSError, naming the lock,
    if it or its folder is a symbolic link, or where the filesystem has no locks.
    """
    with ExitStack() as stack:
        for path in sorted(set(paths)):
            lock = path.parent / "locks" / path.name
            with naming(lock, "lock"):
                lock.parent.mkdir(parents=True, exist_ok=True)
                if lock.parent.is_symlink() or lock.is_symlink():
                    raise OSError(errno.ELOOP, "it or its folder is a symbolic link")
                try:
                    stack.enter_context(FileLock(lock, fallback_to_soft=False))
                except (OSError, NotImplementedError) as error:
                    number = getattr(error, "errno", None) or errno.ENOSYS
                    if number in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                        raise OSError(number, f"this filesystem has no locks: {error}") from error
                    raise
            with naming(path.parent, "look for unfinished files"):
                for part in path.parent.iterdir():
                    if part.name.startswith(f"{path.name}.") and part.suffix == ".part":
                        part.unlink(missing_ok=True)
        yield
