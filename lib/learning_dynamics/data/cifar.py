"""CIFAR-10 from a folder that the user names; nothing is downloaded.

The standard binary layout: five files data_batch_1.bin .. data_batch_5.bin and test_batch.bin,
each of 10 000 records of 3073 bytes: the label, then 32 x 32 red, green and blue values.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from learning_dynamics.problems import Problem
from learning_dynamics.runtime import check_integer

__all__ = ["CLASSES", "cifar10"]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RECORD = 3073
TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST = ("test_batch.bin",)


def _read(folder: Path, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 3072) uint8 and labels (n,) of some files, checked."""
    parts = []
    for name in names:
        path = folder / name
        if not path.is_file():
            raise ValueError(
                f"folder = {str(folder)!r}: {name} is missing; expected the binary version of "
                f"CIFAR-10, the files {', '.join((*TRAIN, *TEST))}"
            )
        data = np.fromfile(path, dtype=np.uint8)
        if len(data) == 0 or len(data) % RECORD:
            raise ValueError(
                f"{name}: {len(data)} bytes, not a whole number of {RECORD}-byte records; "
                "the file is truncated or not in the binary layout"
            )
        records = data.reshape(-1, RECORD)
        if records[:, 0].max() > 9:
            where = int(np.flatnonzero(records[:, 0] > 9)[0])
            raise ValueError(f"{name}: record {where} has label {records[where, 0]}, allowed 0..9")
        parts.append(records)
    records = np.concatenate(parts)
    return records[:, 1:], records[:, 0]


def cifar10(
    folder: Path | str,
    classes: Sequence[str] = ("airplane", "automobile"),
    *,
    per_class: int = 1000,
    test_per_class: int = 1000,
    dtype: torch.dtype = torch.float32,
) -> tuple[Problem, Problem]:
    """Training and test problem: pixels in 0..1 (3072, n), no mean subtracted, one-hot targets.

    folder    : where the six files are.
    classes   : at least two distinct names of `CLASSES`, in the order of the outputs.
    per_class : images of each class, the first ones in file order (Utsunomiya's thesis: 1000 of
                two).
    Raises ValueError if the folder, a file, a class or enough images are missing.
    """
    chosen = tuple(classes)
    if len(set(chosen)) < 2 or len(set(chosen)) != len(chosen) or not set(chosen) <= set(CLASSES):
        raise ValueError(
            f"classes = {chosen}: must be two or more distinct ones of {', '.join(CLASSES)}"
        )
    check_integer("per_class", per_class, least=1)
    check_integer("test_per_class", test_per_class, least=1)
    problems = []
    for names, count, part in ((TRAIN, per_class, "training"), (TEST, test_per_class, "test")):
        images, labels = _read(Path(folder), names)
        inputs, targets = [], []
        for k, name in enumerate(chosen):
            own = np.flatnonzero(labels == CLASSES.index(name))
            if len(own) < count:
                raise ValueError(
                    f"{count} {part} images of {name} wanted, the files hold {len(own)}"
                )
            inputs.append(images[own[:count]])
            targets.append(np.full(count, k))
        x = torch.as_tensor(np.concatenate(inputs)).to(dtype).mT / 255
        which = torch.as_tensor(np.concatenate(targets))
        y = torch.nn.functional.one_hot(which, len(chosen)).to(dtype).mT
        problems.append(Problem(x.contiguous(), y.contiguous()))
    return problems[0], problems[1]
