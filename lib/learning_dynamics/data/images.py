"""The images that the simulations train on, named by a frozen configuration."""

import os
from dataclasses import dataclass
from functools import lru_cache

import torch

from learning_dynamics.data.cifar import cifar10
from learning_dynamics.data.digits import digits
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import check_choice, check_integer, generator

__all__ = ["CIFAR_FOLDER", "Images", "load"]

#: Environment variable that names the folder of CIFAR-10.
CIFAR_FOLDER = "LEARNING_DYNAMICS_CIFAR10"

#: Mean of |x|^2 / n_0 over the thesis's images (CIFAR-10, pixels in 0..1).
THESIS_LEVEL = 0.31


@dataclass(frozen=True)
class Images:
    """Which images, and how they are presented.

    source  : "mnist", "sklearn" (digits), "cifar10" or "synthetic".
    classes : digits or CIFAR-10 names; for "synthetic" any two or more labels.
    pool    : side of the squares of pixels that are averaged (1: none).
    level   : rescale so that the training mean of |x|^2 / n_0 is this; None: pixels in 0..1.
    seed    : of the split into training and test set, and of synthetic images.
    train   : keep the first `train` training images of each class; None: all.
    """

    source: str = "mnist"
    classes: tuple[int | str, ...] = (4, 9)
    pool: int = 2
    level: float | None = THESIS_LEVEL
    seed: int = 0
    train: int | None = None


def _pooled(x: torch.Tensor, side: int, pool: int) -> torch.Tensor:
    """Means over pool x pool pixels of images (channels side side, n)."""
    if pool == 1:
        return x
    images = x.mT.reshape(x.shape[1], -1, side, side)
    return torch.nn.functional.avg_pool2d(images, pool).flatten(1).mT.contiguous()


def _synthetic(images: Images, samples: int, stream: torch.Generator) -> Problem:
    """Images of 16 x 16 pixels of mean 1/2 whose class shifts the pixels along a direction."""
    size, count = 256, len(images.classes)
    directions = torch.randn(
        size, count, generator=generator("synthetic", images.seed), dtype=torch.float64
    )
    which = torch.arange(samples) % count
    y = torch.nn.functional.one_hot(which, count).double().mT.contiguous()
    noise = torch.randn(size, samples, generator=stream, dtype=torch.float64)
    x = 0.5 + 0.24 * (noise + 0.2 * directions[:, which])
    return Problem(x.clamp(0, 1), y)


@lru_cache(maxsize=8)
def load(images: Images, device: str = "cpu") -> tuple[Problem, Problem]:
    """Training and test problem in float32: inputs (n_0, n), one-hot targets (classes, n).

    Raises ValueError for an unknown source, an impossible `pool`, or CIFAR-10 without the
    environment variable that names its folder.
    """
    check_choice("source", images.source, ("mnist", "sklearn", "cifar10", "synthetic"))
    check_integer("pool", images.pool, least=1)
    if images.source == "cifar10":
        folder = os.environ.get(CIFAR_FOLDER)
        if not folder:
            raise ValueError(f"source = 'cifar10': set {CIFAR_FOLDER} to the folder of its files")
        (train, test), side = cifar10(folder, tuple(map(str, images.classes))), 32
    elif images.source == "synthetic":
        train, test = (
            _synthetic(images, n, generator("synthetic", part, images.seed))
            for part, n in (("train", 800), ("test", 400))
        )
        side = 16
    else:
        split = digits(tuple(map(int, images.classes)), source=images.source, seed=images.seed)
        train, test, side = split.train, split.test, split.side
    if side % images.pool:
        raise ValueError(f"pool = {images.pool}: must divide the side of the images, {side}")
    x, x_test = (_pooled(p.inputs.double(), side, images.pool) for p in (train, test))
    y = train.targets
    if images.train is not None:
        kept = [torch.nonzero(row > 0)[: images.train, 0] for row in y]
        if min(map(len, kept)) < images.train:
            raise ValueError(f"train = {images.train}: a class has {min(map(len, kept))} images")
        x, y = x[:, torch.cat(kept)], y[:, torch.cat(kept)]
    scale = 1.0
    if images.level is not None:
        scale = float((images.level / x.square().mean()).sqrt())

    def ready(inputs: torch.Tensor, targets: torch.Tensor) -> Problem:
        inputs = (scale * inputs).float().contiguous().to(device)
        return Problem(inputs, targets.float().contiguous().to(device))

    return ready(x, y), ready(x_test, test.targets)
