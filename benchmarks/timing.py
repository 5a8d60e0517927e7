"""Interleaved repeats: every contender once a round, so that all meet the same machine.

Every other round goes backwards: who runs after a heavy one meets a slower clock. Counted is the
processor time of this process, all its threads together, which other processes on the machine
hardly touch; compared are the fastest repeats.
"""

import os
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch


def fastest(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of the fastest call of each contender; one unrecorded round first.

    The environment variable BENCH_EFFORT (default 1) multiplies the number of rounds.
    """
    rounds = max(1, round(rounds * float(os.environ.get("BENCH_EFFORT", "1"))))
    best = dict.fromkeys(contenders, float("inf"))
    for r in range(rounds + 1):
        for name, call in list(contenders.items())[:: 1 if r % 2 else -1]:
            begin = time.process_time()
            call()
            if r:
                best[name] = min(best[name], time.process_time() - begin)
    return best


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
