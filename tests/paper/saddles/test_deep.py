"""Exponents of deep nets, their record, and the control that must fail."""

import pytest
import torch

from learning_dynamics.runtime import generator
from learning_dynamics.saddles import deep_nets
from paper.records import read_record
from paper.saddles.deep.scalars import scalar_escape
from paper.saddles.deep.schedules import Deep, alone_limits, from_dataset, problem, run, to_dataset


@pytest.fixture(scope="module")
def cyclic():
    return run(Deep(3, scales=(0.06, 0.03, 0.015), seeds=2))


def test_one_layer_alone_keeps_its_rank():
    # Negative control: at convergence W_1 is as far from rank 1 at every scale.
    for depth in (3, 4):
        ratios = alone_limits(depth, (0.5, 0.005), seeds=4)
        assert float((ratios[:, 1] - ratios[:, 0]).abs().max()) < 0.002
        assert float(ratios.min()) > 0.05


def test_the_limit_of_one_layer_alone_is_where_a_run_ends():
    start = deep_nets.initialise_deep((4, 6, 6, 3), 0.9, [generator("deep/start", 1)])
    end = deep_nets.layers_in_turn(
        start, problem(1), step_size=0.3, most_steps=20000, order=(0,), tolerance=1e-9
    )
    limit = deep_nets.limit_of_first_layer(start, problem(1).moments())
    assert torch.allclose(end.final[0], limit, atol=1e-6)
    assert not torch.allclose(end.final[0], start[0], atol=0.1)


def test_simultaneous_steps_pay_a_logarithm_and_sweeps_do_not():
    def offset(n, schedule):
        return scalar_escape(10.0**-n, schedule=schedule) - 5 * 10**n

    assert abs(offset(4, "cyclic") - offset(1, "cyclic")) <= 1
    late = offset(4, "simultaneous") - offset(1, "simultaneous")
    assert late == pytest.approx(3 * 2.302585, abs=1)
    found = from_dataset(read_record("deep"))
    for depth in (3, 4):
        one = found[f"linear/simultaneous/{depth}"]
        miss = abs(float(one.corrected_exponents.mean()) + depth - 2)
        assert miss < 0.5 * abs(float(one.time_exponents.mean()) + depth - 2)


def test_too_few_sweeps_is_an_error():
    with pytest.raises(ValueError, match="most_sweeps"):
        run(Deep(3, scales=(0.01,), seeds=1, most_sweeps=20))


def test_results_survive_the_dataset(cyclic):
    (back,) = from_dataset(to_dataset([cyclic])).values()
    assert torch.equal(back.sweeps, cyclic.sweeps)
    assert torch.equal(back.ratios, cyclic.ratios)
    assert back.config.depth == 3 and back.config.scales == cyclic.config.scales
