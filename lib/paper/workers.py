"""Processes that compute side by side."""

import os
import signal
import threading
from multiprocessing import parent_process

import torch

__all__ = ["worker"]


def worker() -> None:
    """What each process of a pool does first: `ProcessPoolExecutor(..., initializer=worker)`.

    It computes with one thread, leaves Ctrl-C to the parent, and ends when the parent ends,
    however that comes about: else `kill -9` of the parent would leave it waiting for ever.
    """
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    if parent is not None:
        threading.Thread(target=end_with_parent, daemon=True).start()
