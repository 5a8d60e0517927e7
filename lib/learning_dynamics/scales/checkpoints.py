"""The state of a training run as a file, so that a long run can be stopped and gone on with.

    save(trajectory.final, "run.npz")
    sgd(problem, load("run.npz"), ..., steps=more)

A NumPy archive without pickled objects. It is written beside its name and moved there when whole:
a machine that stops in between leaves the previous checkpoint. Going on continues bit for bit.
"""

import io
import zipfile
from pathlib import Path

import numpy as np
import torch

from learning_dynamics.files import write_atomically
from learning_dynamics.scales.training import State

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
    """The state that `save` wrote. Raises ValueError if the file is no whole checkpoint."""
    content = io.BytesIO(Path(path).read_bytes())
    try:
        with np.load(content, allow_pickle=False) as archive:
            arrays = {name: torch.from_numpy(archive[name]).to(device) for name in archive.files}
        layers = sum(name.startswith("weights_") for name in arrays)
        weights = tuple(arrays[f"weights_{i}"] for i in range(layers))
        moving = "velocities_0" in arrays
        velocities = tuple(arrays[f"velocities_{i}"] for i in range(layers)) if moving else None
        return State(weights, velocities, int(arrays["step"]), arrays["diverged_at"])
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, TypeError) as error:
        raise ValueError(f"path = {str(path)!r}: not a checkpoint, or cut short: {error}") from None
