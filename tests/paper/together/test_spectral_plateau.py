"""Spectral's plateau is a saddle escape, and can be skipped."""

import numpy as np
import pytest
import torch

from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator
from learning_dynamics.scales.parametrizations import scheme
from learning_dynamics.scales.training import initialise, sgd
from paper.together.spectral_plateau.plateau import LinearPlateau, linear_plateaus
from paper.together.spectral_plateau.skip import Skip, tuned_digits
from paper.together.spectral_plateau.time_reparametrisation import reparametrised_descent


def test_one_bottleneck_waits_for_the_logarithm():
    p = linear_plateaus(LinearPlateau(2, ratios=(16, 1024, 2**16)))
    waits = p.measured.mean(1).diff()
    assert float(waits[1] / waits[0]) == pytest.approx(1, abs=0.1)


def test_clocked_descent_with_the_plain_clock_is_gradient_descent():
    stream = generator("together/time_power")
    train = Problem(torch.randn(6, 40, generator=stream), torch.randn(3, 40, generator=stream))
    p = scheme("spectral")((6, 32, 8, 32, 3))
    state = initialise(p.widths, p.weight_stds, [0])
    start = [w[0].clone() for w in state.weights]
    plain = reparametrised_descent(start, p.multipliers, train, step_size=0.3, steps=20)
    options = {"seeds": [0], "step_size": 0.3, "steps": 20, "batch_size": 40}
    options |= {"evaluate": {"train": train}, "record": range(21)}
    run = sgd(train, state, p.multipliers, **options)
    share = run["train_loss"][0] / (0.5 * float(train.targets.square().sum(0).mean()))
    torch.testing.assert_close(plain, share.to(plain.dtype), rtol=1e-4, atol=0)


def test_every_method_is_compared_at_its_own_step_size():
    """More step sizes never cost steps, and one that is never reached counts as infinite."""
    small = {"config": Skip(wide=64, most_steps=120), "seeds": 1}
    one, two = (tuned_digits(**small, step_sizes=s) for s in ((0.5,), (0.5, 1.0)))
    assert (two <= one).all() and np.isfinite(two).all()
    assert np.isinf(tuned_digits(**small, step_sizes=(1e-3,))).all()
