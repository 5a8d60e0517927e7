"""Linear twins: exact where they should be, wrong where they must be."""

import torch

from learning_dynamics.runtime import generator
from paper.saddles.nonlinear.stages import NonlinearStages, compare, data, kappa


def test_symmetric_data_hide_the_pattern_of_a_relu():
    # The identity behind the twin: X D R' = kappa X R' for every pattern D.
    a = torch.randn(2, 1, 6, generator=generator("pattern"), dtype=torch.float64)

    def off(inputs):
        problem = data(NonlinearStages("relu", inputs, problems=2))
        x, y = problem.inputs, problem.targets
        right = kappa("relu") * x @ y.mT
        return float((((a @ x > 0) * x) @ y.mT - right).abs().max() / right.abs().max())

    assert off("symmetric") <= 1e-12 and off("shifted") > 0.1


def test_relu_matches_its_twin_on_symmetric_inputs_only():
    same = compare(NonlinearStages("relu", "symmetric", problems=2, steps=600))
    assert (same.matches == 1).all()
    other = compare(NonlinearStages("relu", "shifted", problems=2, steps=600))
    assert (other.matches[:, 0] == 0).all() and (other.rate > 1.2 * other.linear_rate).all()
    assert abs(other.extremal_ratio - 1).max() < 0.1
