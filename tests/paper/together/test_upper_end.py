"""The dial beyond r = 1/2 on real tasks, its step sizes, and the record that the page shows."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from learning_dynamics.scales.parametrizations import dynamic
from learning_dynamics.scales.training import initialise, sgd
from paper.together.one_axis.upper_end import TASKS, Config, at_best, at_one, larger_r, run

SMALL = replace(Config().quick(), tasks=("MNIST",))


@pytest.fixture(scope="module")
def small():
    return run(SMALL)


def test_a_richer_start_needs_a_smaller_step(small):
    own, one = at_best(small), at_one(small)
    assert (own.speed.sel(place=-3) <= own.speed.sel(place=0) - 2).all()
    assert (own.train.mean("seed") < 0.3).all()
    assert (one.train.sel(place=-3) > 0.95).all()


def test_places_and_step_sizes_are_those_of_dp():
    """n_min = 16, r = 1/4: log2 Lambda = 1, and the step size is DP's own."""
    config = replace(SMALL, places=(1.0,), speeds=(-2.0,), seeds=(3,), steps=15)
    train, _ = TASKS["MNIST"](config.samples, config.test_samples)
    p = dynamic("1/4")((49, *config.nets[0], 10))
    state = initialise(p.widths, p.weight_stds, [3])
    same = sgd(
        train, state, p.multipliers, seeds=[3], step_size=0.25, steps=15,
        batch_size=config.samples, evaluate={"train": train}, record=(15,),
    )["train_loss"]  # fmt: skip
    start = 0.5 * train.targets.square().sum(0).mean()
    assert float(run(config).train.squeeze()) == pytest.approx(float(same / start), rel=1e-4)


def test_an_autoencoder_has_targets_of_the_size_of_classes():
    for task in TASKS:
        train, test = TASKS[task](100, 50)
        assert test.inputs.shape[1] == 50
        assert 0.8 < float(train.targets.square().sum(0).mean()) < 1.2


def test_a_run_that_diverges_is_infinite_and_not_the_best():
    result = run(replace(SMALL, places=(-3.0,), speeds=(-4.0, 3.0), seeds=(0,)))
    assert torch.isinf(torch.tensor(result.train.squeeze().values)).tolist() == [False, True]
    assert float(at_best(result).speed.squeeze()) == -4.0


def test_the_record_is_whole():
    result = run(Config())
    assert repr(Config()) == result.attrs["config"]
    assert not np.isnan(result.train).any()
    assert len(larger_r.judge(result).measured) == 6
