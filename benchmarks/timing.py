"""Interleaved repeats: every contender once a round, so that all meet the same machine.

Every other round goes backwards: who runs after a heavy one meets a slower clock. Counted is the
processor time of this process, all its threads together, which other processes on the machine
hardly touch, or the time on the wall where threads shall count; compared are the fastest repeats.
"""

import os
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch


def seconds(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """Seconds of every call of each contender; one unrecorded round first.

    The environment variable BENCH_EFFORT (default 1) multiplies the number of rounds.
    """
    rounds = max(1, round(rounds * float(os.environ.get("BENCH_EFFORT", "1"))))
    spent: dict[str, list[float]] = {name: [] for name in contenders}
    for r in range(rounds + 1):
        for name, call in list(contenders.items())[:: 1 if r % 2 else -1]:
            begin = clock()
            call()
            if r:
                spent[name].append(clock() - begin)
    return spent


def fastest(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of the fastest call of each contender."""
    return {name: min(spent) for name, spent in seconds(contenders, rounds).items()}


def gemm(
    dtype: torch.dtype, operations: float = 0.0, size: int = 1024
) -> tuple[Callable[[], object], int]:
    """A large square matrix product and its operations: the machine's peak for this dtype.

    It is repeated for about as many `operations` as the work beside it has: the clock of a
    processor falls under load, and a single short product would meet a faster one.
    """
    a, b = torch.randn(2, size, size, dtype=dtype)
    out, repeats = torch.empty_like(a), max(1, round(operations / (2 * size**3)))

    def product() -> None:
        for _ in range(repeats):
            torch.mm(a, b, out=out)

    return product, repeats * 2 * size**3


def slope(x: list[float], y: list[float]) -> float:
    """Least-squares slope of log y against log x over the larger half of x."""
    half = len(x) // 2
    return float(np.polyfit(np.log(x[half:]), np.log(y[half:]), 1)[0])
