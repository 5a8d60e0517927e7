"""The published problems have the published levels."""

import pytest
import torch

from learning_dynamics.data.published import diagonal_pair, five_point, orthogonal_pair, three_point
from learning_dynamics.problems import Problem


def least_squares_error(problem: Problem) -> float:
    m = problem.moments()
    line = m.yx @ torch.linalg.inv(m.xx)
    return float((problem.targets - line @ problem.inputs).square().mean())


def test_five_point_levels():
    p = five_point()
    d, y = 0.7 - p.inputs[0], p.targets[0]
    first = float((y.square().sum() - (y @ d) ** 2 / (d @ d)) / 5)
    assert float(y.square().mean()) == pytest.approx(0.03812, abs=1e-12)
    assert first == pytest.approx(0.030185279, abs=5e-10)
    assert least_squares_error(p) == pytest.approx(0.0278859611, abs=5e-11)


def test_orthogonal_pair():
    p = orthogonal_pair()
    assert float(p.inputs[:, 0] @ p.inputs[:, 1]) == 0
    rates = p.targets.abs()[0] * p.inputs.norm(dim=0) / 2
    assert rates.tolist() == pytest.approx([0.5590, 1.1180], abs=5e-5)


def test_three_point_line():
    p = three_point()
    m = p.moments()
    line = (m.yx @ torch.linalg.inv(m.xx))[0]
    assert line.tolist() == pytest.approx([-0.06154, 0.64359], abs=5e-6)
    assert least_squares_error(p) == pytest.approx(0.175043, abs=5e-7)


def test_diagonal_pair_losses():
    m = diagonal_pair().moments()
    total = 0.5 * float(m.yy)
    gains = 0.5 * m.yx[0].square() / m.xx.diagonal()  # best with one coordinate alone
    losses = [total, *(total - gains).tolist()]
    assert losses == pytest.approx([2.3111, 1.1147, 0.0700], abs=1e-4)
    assert float(m.yx[0].abs().max()) == pytest.approx(1 / 0.1930, rel=5e-4)
