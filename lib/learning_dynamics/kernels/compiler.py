"""C++ compiled by the compiler when `native` meets a new shape, and kept in a cache."""

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

__all__ = ["FLAGS", "build", "cache_folder", "command", "march"]

#: Sums are reordered in the source alone; finite numbers are never assumed.
FLAGS = (
    *("-O3", "-std=c++17", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
    *("-shared", "-fPIC", "-w"),
)


def march() -> str:
    """The processor to compile for: LEARNING_DYNAMICS_MARCH, else this machine's."""
    return os.environ.get("LEARNING_DYNAMICS_MARCH", "native")


def command() -> list[str]:
    """The compiler as `CXX` names it, else the first of c++, g++ and clang++; empty: none."""
    named = shlex.split(os.environ.get("CXX", ""))
    for first, *rest in [named] if named else [["c++"], ["g++"], ["clang++"]]:
        if found := shutil.which(first):
            return [found, *rest]
    return []


def cache_folder() -> Path:
    """Where libraries are kept; a folder of this process alone where that cannot be written."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "learning_dynamics"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(_own_folder().name)


@lru_cache  # which keeps the folder: it is removed when the process ends
def _own_folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="learning_dynamics")


@lru_cache
def build(source: Path, macros: Mapping[str, object] | tuple, target: str) -> ctypes.CDLL | str:
    """The library made from a file with these macros, or the reason why there is none.

    The file's name holds the digest of all that it was made from, the macros by which the compiler
    describes the processor among it, and of its own bytes. A damaged file is made anew; processes
    that build the same one at once replace it by its equal.
    """
    compiler = command()
    if not compiler:
        return f"no C++ compiler: CXX = {os.environ.get('CXX', '')!r}, nor c++, g++ or clang++"
    texts = [p.read_text() for p in sorted(source.parent.glob("*.[ch]pp"))]
    defined = [f"-D{name}={value}" for name, value in dict(macros).items()]
    call = [*compiler, *FLAGS, f"-march={target}", *defined]
    try:
        processor = _run(call, "-dM", "-E", "-x", "c++", os.devnull).stdout
        key = _digest("\0".join([*texts, *call, source.name, processor]).encode())
        folder = cache_folder()
        for kept in folder.glob(f"{key}-*.so"):
            try:
                if kept.name == f"{key}-{_digest(kept.read_bytes())}.so":
                    return ctypes.CDLL(str(kept))
            except OSError:  # made for another system, or removed meanwhile
                continue
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / "made.so"
            done = _run(call, str(source), "-o", str(made))
            if done.returncode:
                said = next(iter(done.stderr.strip().splitlines()), "no message")
                return f"{shlex.join(compiler)} -march={target} failed: {said}"
            kept = folder / f"{key}-{_digest(made.read_bytes())}.so"
            os.replace(made, kept)
        return ctypes.CDLL(str(kept))
    except OSError as error:  # no room, or the code does not run here
        return f"{shlex.join(compiler)} -march={target}: {error}"


def _run(call: list[str], *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*call, *more], capture_output=True, text=True)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
