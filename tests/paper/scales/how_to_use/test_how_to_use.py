"""What the page on one's own networks shows: planted faults and the transfer of rates."""

import numpy as np

from paper.scales.how_to_use import planted_faults, transfer


def test_most_faults_are_caught_and_right_networks_pass():
    """The quick run, and the record: every fault is caught somewhere, no network hides many."""
    quick = planted_faults.run(planted_faults.Config().quick())
    assert float(quick.caught.mean()) >= 0.9 and float(quick.alarm.sum()) == 0
    record = planted_faults.run(planted_faults.Config())
    assert record.fault.size == 20 and set(record.network.values) == set(
        planted_faults.Config().networks
    )
    assert (record.caught.max("network") == 1).all()
    assert (record.caught.mean("fault") >= 0.85).all()
    assert record.caught.isnull().sum() <= 4  # faults that a network has no place for


def test_budgets_keep_the_best_rate_and_one_rate_does_not():
    """The record holds runs of this code, and its optima lie inside of their grids."""
    config = transfer.Config()
    record = transfer.run(config)
    again = transfer.measure(config.quick()).loss
    stored = record.loss.sel(case=again.case, size=again["size"], seed=again.seed)
    np.testing.assert_allclose(again, stored, rtol=0.02)  # another processor rounds otherwise
    best = transfer.best_rates(record)
    shift = (best.isel(size=-1) - best.isel(size=0)).sel(case=["standard, adam"])
    assert float(shift.item()) <= -2
    assert np.isfinite(record.loss.isel(place=0)).all()
