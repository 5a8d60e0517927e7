"""Processes that compute side by side."""

import signal

import torch

from learning_dynamics.runtime import end_with_parent

__all__ = ["worker"]


def worker() -> None:
    """What each process of a pool does first: `ProcessPoolExecutor(..., initializer=worker)`.

    It computes with one thread, leaves Ctrl-C to the parent, and ends when the parent ends.
    """
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
