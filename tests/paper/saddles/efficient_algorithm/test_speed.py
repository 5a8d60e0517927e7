"""Speed of the skipping algorithm: the baselines are at their best, the counts are exact."""

import math

import pytest
import torch

from learning_dynamics.runtime import generator
from learning_dynamics.saddles.baselines.optimizers import gradient_descent
from learning_dynamics.saddles.linear_nets.linear import linear_descent
from learning_dynamics.saddles.linear_nets.modes import steps_until
from learning_dynamics.saddles.two_layer import Weights, initialise
from paper.saddles.efficient_algorithm import speed
from paper.saddles.efficient_algorithm.measurements import level_gaps, skip_case
from paper.saddles.efficient_algorithm.problems import case


def test_the_baseline_is_at_its_best_step_and_tolerance():
    c = case("P9")
    best = speed.cheapest_skip(c, "gradient_descent")
    i, k = speed.STEPS.index(best.step), speed.TOLERANCES.index(best.tolerance)
    for step, tolerance in ((i - 1, k), (i + 1, k), (i, k - 1)):
        try:
            options = {"phase": "gradient_descent", "max_steps": 400}
            options |= {"step_size": speed.STEPS[step] * c.largest_step}
            found = skip_case(c, tolerance=speed.TOLERANCES[tolerance], **options)
        except ValueError:
            continue
        met = len(found.saddles) == len(c.levels) and max(level_gaps(found, c)) <= 1e-6
        assert not met or found.saddles[-1].evaluations >= best.evaluations
    # Beside those of the stages: the first evaluation, and that of the end without removed units.
    assert 1 <= best.evaluations - sum(best.stages) <= 2


def _weights(c, scale):
    w = initialise((6, 10, len(c.problem.targets)), scale, [generator("rivals/start", 0)])
    return Weights(w.w1[0], w.w2[0]), w


def test_steps_from_tiny_scales_are_those_of_the_moments():
    c = case("P3")
    eta, goal = 0.5 * c.largest_step, float(c.levels[2])  # the loss of the second drop's end
    thin, batch = _weights(c, 1e-100)

    def steps(**options):
        options |= {"step_size": eta, "max_steps": 4000}
        return steps_until(thin, c.problem, lambda loss, f: float(loss) <= goal, **options)

    count = steps()
    grid = torch.tensor([count - 1, count])
    run = linear_descent(batch, c.problem, step_size=eta, steps=count, record_at=grid)
    assert (run["loss"][0] <= goal).tolist() == [False, True]
    plain = steps(rotate_every=None)
    assert plain < count - 20  # rounding activates the second mode early


def test_logistic_steps_are_those_of_gradient_descent_and_grow_as_predicted():
    c = case("P9")
    options = {"step_size": c.largest_step, "init_scale": 1e-8, "max_steps": 200}
    options |= {"width": 10, "generator": generator("rivals/start", 0), "loss": "logistic"}
    path = gradient_descent(c.problem, **options)
    first = speed.descent_cost(c, 1e-8, 1.0)
    close = (path.losses - c.levels[-1]).abs() <= 1e-6 * c.levels[0]
    near = (path.outputs - c.outputs[-1]).flatten(1).norm(dim=1) <= 1e-2 * c.outputs[-1].norm()
    assert int(path.evaluations[(close & near).nonzero()[0, 0]]) == first
    slope = (speed.descent_cost(c, speed.SCALES[2], 1.0) - first) / math.log(
        speed.SCALES[0] / speed.SCALES[2]
    )
    waits = [s.escape.waiting for s in skip_case(c, step_size=c.largest_step).saddles[:-1]]
    assert slope * c.largest_step == pytest.approx(sum(waits), rel=0.02)


def test_too_few_steps_are_an_error():
    c, options = case("P3"), {"step_size": 0.01, "max_steps": 3}
    with pytest.raises(ValueError, match="max_steps = 3: too few"):
        steps_until(_weights(c, 0.1)[0], c.problem, lambda loss, f: False, **options)
