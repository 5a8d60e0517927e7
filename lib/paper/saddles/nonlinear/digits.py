"""Pairs of handwritten digits: the first two drops and the singular values they follow.

Two outputs, one per digit. The first drop learns what both digits share (the mean image), the
second what tells them apart; its plateau is as long as the digits are alike.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
import xarray as xr

from learning_dynamics.data.digits import digits_pair
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.theory.stages import crossing_steps
from learning_dynamics.saddles.theory.staircase import recursion
from learning_dynamics.saddles.two_layer import gradient_descent, initialise, uniform_grid
from paper.claims import Evidence
from paper.records import write_record

__all__ = ["PAIRS", "DigitPairs", "main", "measure", "pair_problems", "run"]

PAIRS: tuple[tuple[int, int], ...] = tuple(combinations(range(10), 2))


@dataclass(frozen=True)
class DigitPairs:
    """A two-layer linear net of 20 units on pairs of digits, `per_class` images of each digit.

    scales : two initial scales; times are compared by their slope in log(1/epsilon).
    """

    pairs: tuple[tuple[int, int], ...] = PAIRS
    source: str = "sklearn"
    per_class: int = 100
    scales: tuple[float, float] = (1e-6, 1e-9)
    step_size: float = 0.06
    steps: int = 1200


def pair_problems(config: DigitPairs) -> tuple[Problem, Problem]:
    """Training and test problems of all pairs, cut to equal numbers of images.

    Where there are more pixels than training images, the images are written in an orthonormal
    basis of the training images' span: the weights never leave it, but for their start.
    """
    parts: tuple[list[Problem], list[Problem]] = ([], [])
    for a, b in config.pairs:
        split = digits_pair(a, b, source=config.source)
        x, labels = split.train.inputs, split.train.targets.argmax(0)
        keep = torch.cat([(labels == c).nonzero()[: config.per_class, 0] for c in (0, 1)])
        x, x_test = x[:, keep], split.test.inputs
        if len(x) > len(keep):
            basis = torch.linalg.qr(x)[0]
            x, x_test = basis.mT @ x, basis.mT @ x_test
        parts[0].append(Problem(x.contiguous(), split.train.targets[:, keep]))
        parts[1].append(Problem(x_test.contiguous(), split.test.targets))
    least = min(p.inputs.shape[1] for p in parts[1])
    train, test = (
        Problem(
            torch.stack([p.inputs[:, :size] for p in part]),
            torch.stack([p.targets[:, :size] for p in part]),
        )
        for part, size in zip(parts, (2 * config.per_class, least), strict=True)
    )
    return train, test


def run(config: DigitPairs = DigitPairs()) -> xr.Dataset:
    """Train all pairs from both scales; find both drops and the singular values before each.

    loss (pair, scale, step). drops (pair, scale, drop) : half-drop steps. slopes, predicted
    (pair, drop) : steps per log(1/epsilon), measured and predicted. second (pair) : the largest
    singular value of the residual correlation Sigma_yx - W Sigma_xx at the rest between the drops
    of the smaller scale. test_error (pair) : share misread.

    The first drop takes the loss from 1/2 to about 1/4 (the mean image), whatever the pair.
    Prediction, in steps per log(1/epsilon), with g(s) = log(1 + eta s): drop 1 at 1/g(s_1); by
    then the second mode has grown by the power g(s_2)/g(s_1) and goes the rest of its way at the
    rate g(second).
    """
    train, test = pair_problems(config)
    scales, pairs = len(config.scales), len(config.pairs)
    problem = Problem(
        *(part.repeat_interleave(scales, 0) for part in (train.inputs, train.targets))
    )
    trajectory = gradient_descent(
        initialise(
            (problem.inputs.shape[1], 20, 2),
            torch.tensor(config.scales, dtype=torch.float64).repeat(pairs),
            [generator("digits", *pair) for pair in config.pairs for _ in config.scales],
        ),
        problem,
        step_size=config.step_size,
        steps=config.steps,
        record_at=uniform_grid(config.steps, 2),
        observables=("loss", "product"),
    )
    loss, t, products = trajectory["loss"], trajectory.steps, trajectory["product"]
    edges = loss.new_tensor([0.375, 0.28, 0.2]).expand(len(loss), 3)
    first_drop, begin, end = crossing_steps(loss, edges, t).unbind(1)
    inside = (t[:-1] >= begin[:, None]) & (t[1:] <= end[:, None])
    slow = torch.where(inside, -loss.diff(dim=1), torch.inf).argmin(1)
    every = torch.arange(len(loss))
    half = (loss[every, slow] + loss[:, -1]) / 2
    second_drop = crossing_steps(loss, half[:, None], t)[:, 0]
    drops = torch.stack([first_drop, second_drop], 1).reshape(pairs, scales, 2)
    moments = train.moments()
    rest, final = products[every, slow][scales - 1 :: scales], products[scales - 1 :: scales, -1]
    second = torch.linalg.matrix_norm(moments.yx - rest @ moments.xx, 2)
    first = torch.linalg.svdvals(moments.yx)
    rates = torch.stack([first[:, :2], torch.stack([second, torch.zeros_like(second)], -1)], 1)
    wrong = (final @ test.inputs).argmax(1) != test.targets.argmax(1)
    log_scales = -np.log(config.scales)
    variables = {
        "loss": (("pair", "scale", "step"), loss.reshape(pairs, scales, -1)),
        "drops": (("pair", "scale", "drop"), drops),
        "slopes": (("pair", "drop"), (drops[:, 1] - drops[:, 0]) / np.diff(log_scales)[0]),
        "predicted": (("pair", "drop"), recursion(rates, config.step_size)[0] / config.step_size),
        "second": ("pair", second),
        "test_error": ("pair", wrong.double().mean(1)),
    }
    names = [f"{a}-{b}" for a, b in config.pairs]
    return xr.Dataset(variables, {"pair": names, "step": t, "scale": list(config.scales)})


def main() -> None:
    """Run all pairs of the small digits and nine of MNIST; write results/digits_<source>.nc."""
    mnist = DigitPairs(PAIRS[::5], "mnist", step_size=0.03, steps=1500)
    for config in (DigitPairs(), mnist):
        write_record(f"digits_{config.source}", run(config).drop_dims("step"))


def measure(*, quick: bool = False) -> Evidence:
    """`saddles/digits`: steps per log(1/epsilon) of the first two drops, measured / predicted.

    second: the singular value that the second drop follows. log_correlation: of the length of
    the second plateau with it, over pairs. test_error: share of test images misread.
    """
    runs = run(DigitPairs(PAIRS[::9] if quick else PAIRS[::2]))
    gap = runs.drops[:, -1, 1] - runs.drops[:, -1, 0]
    return Evidence(
        measured=(runs.slopes / runs.predicted).values.ravel().tolist(),
        predicted=1.0,
        tolerance=0.03,
        seeds=[0],
        details={
            "second": runs.second.values.tolist(),
            "log_correlation": float(xr.corr(np.log(gap), np.log(runs.second))),
            "test_error": runs.test_error.values.tolist(),
        },
    )
