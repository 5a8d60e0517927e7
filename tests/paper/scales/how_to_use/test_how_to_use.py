"""The transfer of rates that the page on one's own networks shows."""

import numpy as np

from paper.scales.how_to_use import transfer


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
