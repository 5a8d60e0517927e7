"""When the ensemble driver looks at its runs, and the threads that advance them."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

__all__ = ["blocks", "worker_map"]


def blocks(grid: Sequence[int], steps: int) -> Iterator[list[tuple[int, int | None]]]:
    """Lists of (step, record or None), each ending where the driver looks at the runs."""
    length = min(4096, max(64, steps // 64))
    record = {t: r for r, t in enumerate(grid)}
    looks = range(length, steps, length)
    block: list[tuple[int, int | None]] = []
    for t in sorted({*grid, *looks, steps}):
        block.append((t, record.get(t)))
        if t in looks or t == steps:
            yield block
            block = []


@contextmanager
def worker_map(count: int) -> Iterator[Callable]:
    """A `map` over `count` threads with one torch thread each; the plain `map` for one."""
    if count == 1:
        yield lambda f, items: list(map(f, items))
        return
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield lambda f, items: list(pool.map(f, items))
    finally:
        torch.set_num_threads(threads)  # the workers changed the default of new threads
