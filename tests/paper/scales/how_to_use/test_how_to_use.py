"""Planted faults and transfer of rates, as the page on one's own networks shows them."""

import numpy as np
import pytest
import xarray as xr

from paper.scales.how_to_use import planted_faults, transfer


def test_faults_are_caught_and_sound_networks_pass():
    """The record holds runs of this code; each fault has a place, and is found in one."""
    config = planted_faults.Config()
    record = planted_faults.run(config)
    again = planted_faults.measure(config.quick())
    stored = record.sel({k: again[k] for k in ("fault", "scheme", "optimizer", "network")})
    xr.testing.assert_equal(again, stored.isel(repeat=[0]).drop_attrs())
    assert list(record.fault.values) == list(planted_faults.FAULTS)
    assert (record.caught.max(["optimizer", "network"]) == 1).all()
    assert (record.alarm.mean(["scheme", "repeat", "optimizer"]) <= 0.1).all()


@pytest.mark.parametrize(
    ("config", "rtol"), [(transfer.Config(), 0.02), (transfer.Architectures(), 0.05)]
)
def test_records_hold_runs_of_this_code(config, rtol):
    record, again = transfer.run(config), transfer.measure(config.quick()).loss
    stored = record.loss.sel(case=again.case, size=again["size"], seed=again.seed)
    np.testing.assert_allclose(again, stored, rtol=rtol)  # another processor rounds otherwise
    assert [c.name for c in config.cases] == list(record.case.values)


def test_budgets_keep_the_best_rate_and_one_rate_does_not():
    """The optima of the record lie inside of their grids."""
    record = transfer.run(transfer.Config())
    best = transfer.best_rates(record)
    shift = (best.isel(size=-1) - best.isel(size=0)).sel(case=["standard, adam"])
    assert float(shift.item()) <= -2
    assert np.isfinite(record.loss.isel(place=0)).all()
