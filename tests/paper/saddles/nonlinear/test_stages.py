"""Linear twins: exact where they should be, wrong where they must be."""

import torch

from learning_dynamics.runtime import generator
from paper.saddles.nonlinear.stages import NonlinearStages, compare, data, kappa


def test_symmetric_data_hide_the_pattern_of_a_relu():
    # The identity behind the twin: X D R' = kappa X R' for every pattern D.
    problem = data(NonlinearStages("relu", "symmetric", problems=2))
    a = torch.randn(2, 1, 6, generator=generator("pattern"), dtype=torch.float64)
    slopes = ((a @ problem.inputs) > 0).double()
    left = (slopes * problem.inputs) @ problem.targets.mT
    right = kappa("relu") * problem.inputs @ problem.targets.mT
    assert float((left - right).abs().max()) <= 1e-12 * float(right.abs().max())
    shifted = data(NonlinearStages("relu", "shifted", problems=2))
    slopes = ((a @ shifted.inputs) > 0).double()
    left = (slopes * shifted.inputs) @ shifted.targets.mT
    right = kappa("relu") * shifted.inputs @ shifted.targets.mT
    assert float((left - right).abs().max()) > 0.1 * float(right.abs().max())


def test_slopes_that_dormant_units_feel():
    assert [round(kappa(n), 6) for n in ("tanh", "gelu", "relu", "leaky_relu")] == [
        1,
        0.5,
        0.5,
        0.6,
    ]


def test_relu_matches_its_twin_on_symmetric_inputs_only():
    same = compare(NonlinearStages("relu", "symmetric", problems=2, steps=600))
    assert bool((same.matches() == 1).all())
    other = compare(NonlinearStages("relu", "shifted", problems=2, steps=600))
    assert bool((other.matches()[:, 0] == 0).all())
    assert bool((other.rate > 1.2 * other.linear_rate).all())
    assert float((other.extremal_ratio - 1).abs().max()) < 0.1
