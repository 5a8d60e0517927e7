"""MNIST digits made small: what the chapters of Part III train on."""

from functools import lru_cache

import torch

from learning_dynamics.datasets import digits
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator

__all__ = ["small_digits"]


@lru_cache(maxsize=4)
def small_digits(
    samples: int, test_samples: int, *, seed: int = 0, classes: tuple[int, ...] = tuple(range(10)),
    dtype: torch.dtype = torch.float32,
) -> tuple[Problem, Problem]:
    """Training and test digits: 4 x 4 pixel blocks averaged, inputs and one-hot targets centred.

    Inputs have mean square 1 per pixel over the training set. Read once and kept: do not modify.
    """
    split = digits(classes, seed=seed)
    stream = generator("small-digits", seed)
    parts = []
    for whole, size in ((split.train, samples), (split.test, test_samples)):
        index = torch.randperm(whole.inputs.shape[1], generator=stream)[:size]
        image = whole.inputs[:, index].reshape(7, 4, 7, 4, -1).mean((1, 3)).reshape(49, -1)
        parts.append((image, whole.targets[:, index]))
    (x, y), (x_test, y_test) = parts
    mean, middle = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
    scale = (x - mean).square().mean().sqrt()
    return (
        Problem(((x - mean) / scale).to(dtype), (y - middle).to(dtype)),
        Problem(((x_test - mean) / scale).to(dtype), (y_test - middle).to(dtype)),
    )
