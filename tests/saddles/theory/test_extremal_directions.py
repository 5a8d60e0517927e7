"""Extremal directions: self-consistency, published rates, controls that must fail."""

import pytest
import torch

from learning_dynamics.data.published import five_point, orthogonal_pair, three_point
from learning_dynamics.problems import Problem, linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.theory.extremal_directions import (
    distinct_directions,
    dormant_activation,
    extremal_directions,
)
from learning_dynamics.saddles.two_layer import Weights, forward


def at_the_origin(problem, **options):
    n = problem.inputs.shape[1]
    options = {"generator": generator("directions"), "starts": 60} | options
    return extremal_directions(problem.inputs, problem.targets / n, **options)


def test_five_point_rates_are_the_published_ones():
    # Rates for the mean squared error without 1/2: twice ours.
    found = at_the_origin(five_point())
    # The third lies on a kink: the sample x = -1 sits on its boundary.
    assert (2 * found.rates[:2]).tolist() == pytest.approx([0.15140, 0.03423], abs=5e-6)
    assert found.directions[:, 2].sign().tolist() == [1, -1, -1]
    assert found.kinks.tolist() == [0, 0, 1]
    patterns = (found.directions[:, :2] @ five_point().inputs > 1e-9).sum(1)
    assert patterns.tolist() == [5, 2, 4]
    assert found.directions[2, :2].tolist() == pytest.approx([0.5, 0.5])


def test_directions_are_the_local_maxima_of_a_scan():
    p = five_point()
    angles = torch.linspace(-torch.pi, torch.pi, 7201, dtype=torch.float64)
    a = torch.stack([angles.cos(), angles.sin()], 1)
    peaks = []
    for sign in (1.0, -1.0):
        u = sign * (torch.relu(a @ p.inputs) @ p.targets[0]) / 5
        top = (u[1:-1] > u[:-2]) & (u[1:-1] >= u[2:]) & (u[1:-1] > 0)
        peaks += u[1:-1][top].tolist()
    found = at_the_origin(p, starts=200)
    assert found.rates.tolist() == pytest.approx(sorted(peaks, reverse=True), rel=1e-4)
    assert int(found.starts.sum()) + found.dormant <= 200


@pytest.mark.parametrize(
    "problem, rates",
    [
        (orthogonal_pair(), [1.25**0.5, 0.3125**0.5]),
        (three_point(), torch.linalg.svdvals(three_point().moments().yx).tolist()),
        (Problem(five_point().inputs, 0 * five_point().targets), []),
    ],
)
def test_groups_of_small_problems(problem, rates):
    found = at_the_origin(problem)
    assert found.rates.tolist() == pytest.approx(rates, rel=1e-12)
    assert rates or found.dormant == 60


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "gelu"])
def test_directions_are_fixed_points_of_the_unit_flow(name):
    p = linear_teacher(generator=generator("directions", 2), samples=30)
    found = at_the_origin(p, activation=name, starts=20)
    act, residual, off = dormant_activation(name), p.targets / 30, found.kinks == 0
    for w, rate in zip(found.directions[off], found.rates[off], strict=True):
        a, b = w[:6], w[6:]
        z = a @ p.inputs
        force = torch.cat([(act.derivative(z) * (b @ residual)) @ p.inputs.T, residual @ act(z)])
        assert float((force - rate * w).norm()) <= 1e-9 * float(rate)
    assert len(found.rates) >= 1


def test_escape_from_the_first_saddle_of_the_five_points():
    p = five_point()
    line = 0.7 - p.inputs[0]
    c = (p.targets[0] @ line) / (line @ line)
    one = Weights(torch.tensor([[-1.0, 0.7]], dtype=torch.float64) * c**0.5, (c**0.5).reshape(1, 1))
    residual = (p.targets - forward(one, p.inputs, "relu")) / 5
    found = extremal_directions(p.inputs, residual, starts=60, generator=generator("escape"))
    assert 2 * float(found.rates[0]) == pytest.approx(0.068684, abs=5e-6)
    assert float(found.directions[0, 2]) < 0


def test_distinct_directions_counts_units_not_lengths():
    rows = [[1.0, 0.0], [3.0, 0.01], [0.0, 2.0], [-1.0, 0.0], [1e-9, 1e-9]]
    units = torch.tensor(rows, dtype=torch.float64)
    assert distinct_directions(units)[1].tolist() == [0, 0, 1, 2, -1]
    assert len(distinct_directions(units, lines=True)[0]) == 2
    assert len(distinct_directions(units, angle=0.1)[0]) == 4
