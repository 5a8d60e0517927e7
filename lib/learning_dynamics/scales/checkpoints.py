"""The state of a training run as a file, so that a long run can be stopped and gone on with.

    save(trajectory.final, "run.npz")
    sgd(problem, load("run.npz"), ..., steps=more)

A NumPy archive without pickled objects. It is written beside its name and moved there when whole:
a machine that stops in between leaves the previous checkpoint. Going on continues bit for bit.
"""

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from learning_dynamics.files import write_atomically
from learning_dynamics.scales.training import State, check_state

__all__ = ["load", "save"]


def save(state: State, path: Path | str) -> None:
    """Write weights, velocities, step and divergences of `state` to `path`."""
    arrays = {f"weights_{i}": w for i, w in enumerate(state.weights)}
    arrays |= {f"velocities_{i}": v for i, v in enumerate(state.velocities or ())}
    arrays |= {"diverged_at": state.diverged_at, "step": torch.tensor(state.step)}
    file = io.BytesIO()
    np.savez(file, **{name: tensor.detach().cpu().numpy() for name, tensor in arrays.items()})
    write_atomically(Path(path), file.getvalue())


def load(path: Path | str, device: torch.device | str = "cpu") -> State:
    """The state that `save` wrote. Raises ValueError if the file is no whole checkpoint, or its
    layers do not fit each other.
    """
    content = io.BytesIO(Path(path).read_bytes())
    try:
        with np.load(content, allow_pickle=False) as archive:
            arrays = {name: torch.from_numpy(archive[name]).contiguous().to(device)
                      for name in archive.files}
        weights, velocities = (
            tuple(arrays[f"{what}_{i}"] for i in range(sum(what in name for name in arrays)))
            for what in ("weights", "velocities")
        )
        state = State(weights, velocities or None, arrays["step"].tolist(), arrays["diverged_at"])
        check_state(state)
        return state
    except (
        zipfile.BadZipFile, zlib.error, ValueError, LookupError, EOFError, TypeError,
        AttributeError, RuntimeError, MemoryError, OverflowError,
    ) as error:
        raise ValueError(f"path = {str(path)!r}: not a checkpoint, or cut short: {error}") from None
