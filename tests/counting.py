"""A small experiment that writes down each of its runs: what the tests of sweeps run.

A module of its own, so that worker processes can import it; run as a script it sweeps.
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
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


def run(config: Counted) -> xr.Dataset:
    """The squares up to number^2; the log gets one line a run, written in one go."""
    time.sleep(config.seconds)
    if config.fails:
        raise RuntimeError(f"run {config.number} was told to fail")
    with open(config.log, "ab", buffering=0) as log:
        log.write(f"{config.number} {os.getpid()}\n".encode())
    return xr.Dataset({"square": ("i", np.arange(config.number + 1) ** 2)})


def run_many(configs: list[Counted]) -> list[xr.Dataset]:
    """The same, with the size of the batch noted."""
    return [run(c).assign(batch=len(configs)) for c in configs]


ONE_BY_ONE = Experiment("counting", run)
BATCHED = Experiment("counting", run, run_many, group=lambda c: c.number % 2, largest=3)


def lines(log: Path) -> list[int]:
    """The numbers that were computed, in order."""
    return [int(line.split()[0]) for line in log.read_text().splitlines()] if log.exists() else []


def start(folder: Path, log: Path, count: int, seconds: float) -> subprocess.Popen:
    """A sweep in a process of its own."""
    arguments = [sys.executable, __file__, str(folder), str(log), str(count), str(seconds)]
    return subprocess.Popen(arguments, start_new_session=True)


def wait_for(condition, seconds: float = 60.0) -> None:
    """Poll until `condition()` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


if __name__ == "__main__":
    folder, log, count, seconds = sys.argv[1:]
    configs = [Counted(i, log, float(seconds)) for i in range(int(count))]
    sweep(ONE_BY_ONE, configs, store=folder, progress=False)
