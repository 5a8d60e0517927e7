"""What is drawn: a problem, a step below its limit, a Gaussian start and one of another law."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from learning_dynamics.problems import LinearProblem, random_linear
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.theory.staircase import sharpness

__all__ = ["CHANCE", "STARTS", "Config", "draw", "gaussian", "unsettled"]

CHANCE = 3.0  # log of the factor that a random start is allowed between two of its modes


@dataclass(frozen=True)
class Config:
    """draws, windows, losses : first and last problem of the staircases, of the first plateaus with
    a fixed direction, and of other losses. recorded : read all from the record, which `main` of
    `laws` computes in some 20 minutes. scales : epsilon, falling.
    drops, steps : judged are at most so many drops of each problem, those predicted within so many
    steps at the smallest scale."""

    draws: tuple[int, int] = (0, 220)
    windows: tuple[int, int] = (0, 450)
    losses: tuple[int, int] = (0, 210)
    recorded: bool = True
    scales: tuple[float, ...] = (1e-12, 1e-24, 1e-48)
    drops: int = 6
    steps: int = 20_000

    def quick(self) -> "Config":
        return replace(self, draws=(173, 176), windows=(0, 4), losses=(7, 9), recorded=False)


def gaussian(g: Generator, *shape: int) -> Tensor:
    """Independent standard normal entries, of any shape."""
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def _uniform(g: Generator, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=g, dtype=torch.float64)


#: Laws of one layer at the start, (m1, m0) or (m1, m2), times epsilon.
STARTS: dict[str, Callable[..., Tensor]] = {
    "Gaussian": gaussian,
    "uniform": lambda g, *shape: 2 * _uniform(g, *shape) - 1,
    "one sign": lambda g, *shape: gaussian(g, *shape).abs(),
    "sparse (1 in 4)": lambda g, *shape: (_uniform(g, *shape) < 0.25) * gaussian(g, *shape),
    "Cauchy": lambda g, *shape: gaussian(g, *shape) / gaussian(g, *shape),
}
#: Other names: Gaussian, the second layer so much larger than the first.
LAYERS = {
    "first layer 100 times larger": 0.01,
    "second layer 100 times larger": 100.0,
    "second layer zero": 0.0,
}


def draw(number: int) -> tuple[LinearProblem, float, Float[Tensor, "start m1 coordinate"], str]:
    """Problem, step size eta, a Gaussian start and one of another law, and the name of that."""
    g = generator("over-the-prior", number)
    drawn = random_linear(g)
    x, y = drawn.problem.inputs, drawn.problem.targets
    limit = float(sharpness(drawn.problem.moments()).max())
    names = [*STARTS, *LAYERS][1:]
    name = names[int(torch.randint(len(names), (1,), generator=g))]
    law, second = STARTS.get(name, gaussian), LAYERS.get(name, 1.0)
    shapes = (drawn.width, len(x)), (drawn.width, len(y))
    first = torch.cat([gaussian(g, *shape) for shape in shapes], -1)
    other = torch.cat([law(g, *shapes[0]), second * law(g, *shapes[1])], -1)
    eta = 2 * drawn.share / limit if limit > 0 else drawn.share  # nothing to learn: no limit
    return drawn, eta, torch.stack([first, other]), name


def unsettled(lead: float, logs: np.ndarray) -> np.ndarray:
    """By how much (as a logarithm) a mode is off for a next one behind by exponents `lead`.

    W2 W1 holds products of the two, so that the smaller counts as it is and not by its square.
    """
    return np.log1p(np.exp(CHANCE - lead * logs))
