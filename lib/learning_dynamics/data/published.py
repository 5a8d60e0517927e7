"""Small problems from the literature whose outcome is published in numbers.

They serve as outside checks: the numbers to meet were printed by others. Every published loss
here is a mean squared error or half of one; each docstring says which.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.problems import Problem

__all__ = ["diagonal_pair", "five_point", "orthogonal_pair", "three_point", "with_constant"]


def with_constant(x: Float[Tensor, " n"], y: Float[Tensor, " n"]) -> Problem:
    """Scalar inputs with a constant coordinate, X = (x, 1)' (2, n), and scalar targets (1, n)."""
    return Problem(torch.stack([x, torch.ones_like(x)]), y[None, :])


def five_point() -> Problem:
    """Five points on a line for a ReLU net with biases (wu2025).

    X (2, 5), second row 1; Y (1, 5). Published for width 50, standard deviation 50^-3 and step
    size 1e-3 on the mean squared error *without* 1/2 (our loss is half of it, so that their step
    size is half of ours): levels 0.038120, 0.030185279 and, at the end, 0.0278859611, the mean
    squared error of the least-squares line.
    """
    x = torch.tensor([-1.0, -0.6, -0.1, 0.3, 0.7], dtype=torch.float64)
    y = torch.tensor([0.28, -0.1, 0.03, 0.23, -0.22], dtype=torch.float64)
    return with_constant(x, y)


def orthogonal_pair() -> Problem:
    """Two orthogonal inputs with labels of opposite sign (boursier2022).

    X (2, 2), columns (-1/2, 1) and (2, 1); Y = (-1, 1). The two groups of units of a balanced
    ReLU net grow at the rates |y_k| |x_k| / n = 0.5590 and 1.1180; the losses (with 1/2) passed
    are 1/2, 1/4 and 0, at times whose ratio tends to 2 as the scale goes to zero.
    """
    inputs = torch.tensor([[-0.5, 2.0], [1.0, 1.0]], dtype=torch.float64)
    return Problem(inputs, torch.tensor([[-1.0, 1.0]], dtype=torch.float64))


def three_point() -> Problem:
    """Three points on which a ReLU net from small weights never interpolates (boursier2025).

    X (2, 3), second row 1; Y (1, 3). All units that survive align to one direction, and training
    ends at the least-squares line -0.06154 x + 0.64359, whose mean squared error (without 1/2)
    is 0.175043, although wide enough nets can reach zero.
    """
    x = torch.tensor([-0.75, -0.5, 0.125], dtype=torch.float64)
    y = torch.tensor([1.1, 0.1, 0.8], dtype=torch.float64)
    return with_constant(x, y)


def diagonal_pair() -> Problem:
    """Two coordinates for the diagonal net beta = u * v (pesme2023, numbers as in kunin2025).

    X' (2, 2; rows are samples) is the lower Cholesky factor C of R diag(1, 25) R', R the rotation
    by 150 degrees, so that XX' = C'C; Y = beta*' X with beta* = (-0.2, 2). Losses (with 1/2)
    2.3111, 1.1147, 0.0700, 0 after jumps
    at 0.1930, 0.6002, 3.4574 times log(1/alpha): coordinate 0 becomes active, coordinate 1 too
    (and 0 dormant), 0 again.
    """
    c, s = math.cos(math.radians(150)), math.sin(math.radians(150))
    rotation = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    second_moment = rotation @ torch.diag(rotation.new_tensor([1.0, 25.0])) @ rotation.mT
    inputs = torch.linalg.cholesky(second_moment).mT.contiguous()
    teacher = torch.tensor([[-0.2, 2.0]], dtype=torch.float64)
    return Problem(inputs, teacher @ inputs, teacher)
