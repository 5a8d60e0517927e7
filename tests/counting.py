"""A small experiment that writes down each of its runs: what the tests of sweeps run.

A module of its own, so that worker processes can import it; run as a script it sweeps.
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import xarray as xr

from paper.sweep import Experiment, sweep


@dataclass(frozen=True)
class Counted:
    """One run: writes `number` to `log` when it has finished, after `seconds`."""

    number: int
    log: str
    seconds: float = 0.0
    fails: bool = False
    dies: bool = False  # its process, the first time


def run(config: Counted) -> xr.Dataset:
    """The squares up to number^2; the log gets one line a run, written in one go."""
    time.sleep(config.seconds)
    if config.dies and not Path(f"{config.log}.died").exists():
        Path(f"{config.log}.died").touch()
        os._exit(1)
    if config.fails:
        open(f"/no such folder/run {config.number} was told to fail")
    with open(config.log, "ab", buffering=0) as log:
        log.write(f"{config.number} {os.getpid()}\n".encode())
    return xr.Dataset({"square": ("i", np.arange(config.number + 1) ** 2)})


def run_many(configs: list[Counted]) -> list[xr.Dataset]:
    """The same, with the size of the batch noted; fails as a whole."""
    if any(c.fails for c in configs):
        raise RuntimeError("one of the batch was told to fail")
    return [run(c).assign(batch=len(configs)) for c in configs]


def parity(config: Counted) -> int:
    """Odd runs are batched with odd ones."""
    return config.number % 2


ONE_BY_ONE = Experiment("counting", run)
BATCHED = Experiment("batched", run, run_many=run_many, group=parity, largest=3)


def lines(log: Path) -> list[int]:
    """The numbers that were computed, in order."""
    return [int(line.split()[0]) for line in log.read_text().splitlines()] if log.exists() else []


def stored(folder: Path) -> dict[str, bytes]:
    """The files of finished results."""
    return {path.name: path.read_bytes() for path in Path(folder).glob("*.nc")}


def squares(results: list[xr.Dataset]) -> list[int]:
    """The last square of each result."""
    return [int(r.square[-1]) for r in results]


def start(folder: Path, log: Path, count: int, seconds: float, method: str = ""):
    """A sweep in a process of its own; `method` starts two workers of it."""
    arguments = map(str, (folder, log, count, seconds, method))
    command = [sys.executable, __file__, *arguments]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE)


def wait_for(condition, seconds: float = 60.0) -> None:
    """Poll until `condition()` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


if __name__ == "__main__":
    folder, log, count, seconds, method = sys.argv[1:]
    configs = [Counted(i, log, float(seconds)) for i in range(int(count))]
    pool = ProcessPoolExecutor(2, get_context(method)) if method else nullcontext()
    with pool as executor:
        sweep(ONE_BY_ONE, configs, store=folder, executor=executor, progress=False)
