"""Exponents of deep nets, their record, and the control that must fail."""

import pytest
import torch

from learning_dynamics.experiments.deep import Deep, from_dataset, run, to_dataset
from learning_dynamics.experiments.records import read_record


@pytest.fixture(scope="module")
def cyclic():
    return run(Deep(3, scales=(0.06, 0.03, 0.015), seeds=2))


def test_depth_three_escapes_in_one_over_epsilon(cyclic):
    assert float((cyclic.time_exponents + 1).abs().max()) < 0.05


def test_every_layer_is_as_close_to_rank_one_as_epsilon(cyclic):
    assert cyclic.rank_exponents.shape == (2, 3)
    assert float((cyclic.rank_exponents - 1).abs().max()) < 0.2


def test_one_layer_alone_is_slower_and_keeps_its_rank():
    # Negative control: the other layers do not move, and W_1 does not tend to rank 1.
    alone = run(Deep(3, "linear", "alone", (0.5, 0.4, 0.32), seeds=2, escaped=0.5, step_size=0.3))
    assert float((alone.plain_exponents + 4).abs().max()) < 0.25
    assert float(alone.rank_exponents[:, 1:].abs().max()) < 1e-9


def test_too_few_sweeps_is_an_error():
    with pytest.raises(ValueError, match="most_sweeps"):
        run(Deep(3, scales=(0.01,), seeds=1, most_sweeps=20))


def test_results_survive_the_dataset(cyclic):
    (back,) = from_dataset(to_dataset([cyclic])).values()
    assert torch.equal(back.sweeps, cyclic.sweeps)
    assert torch.equal(back.ratios, cyclic.ratios)
    assert back.config.depth == 3 and back.config.scales == cyclic.config.scales


def test_the_record_holds_the_exponents_of_the_chapter():
    found = from_dataset(read_record("deep"))
    for depth in (3, 4, 5):
        for schedule in ("cyclic", "simultaneous"):
            mean = float(found[f"linear/{schedule}/{depth}"].time_exponents.mean())
            assert mean == pytest.approx(2 - depth, abs=0.05)
