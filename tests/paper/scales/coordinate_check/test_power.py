"""The power of the exponent check: what it sees, what it cannot see, and that the record is ours."""

from dataclasses import replace

import numpy as np

from paper.scales.coordinate_check.power import (
    CLOSE,
    Config,
    check_power,
    gaps,
    measure,
    rejected,
    run,
)


def test_the_record_holds_runs_of_this_code():
    config = Config()
    again = measure(replace(config, patterns=("equal widths",), schemes=("ntk", "spectral")))
    stored = run(config).sel(pattern=["equal widths"], scheme=["ntk", "spectral"])
    names = ["slope", "interval", "predicted"]
    for name in names:
        part = stored[name].sel(layer=again.layer)
        np.testing.assert_allclose(again[name], part, rtol=1e-3, atol=1e-4)


def test_a_scheme_sold_as_itself_passes_and_as_a_far_one_fails():
    record = run(Config())
    lines = rejected(record.sel(pattern=[p for p in record.pattern.values if p != CLOSE]))
    assert int(lines.where(lines.scheme == lines.claimed, 0).sum()) == 0
    far = gaps(record).sel(pattern=lines.pattern) > 0.5
    assert bool((lines > 0).where(far, True).all())


def test_one_r_is_another_where_the_bottleneck_hardly_grows():
    """The exponents of DP(1/4) and DP(1/2) differ by alpha/4: one tolerance at n^(1/5)."""
    gap = gaps(run(Config())).sel(scheme="dp(1/4)", claimed="dp(1/2)")
    assert float(gap.sel(pattern="two bottlenecks")) == 0.05
    assert float(gap.sel(pattern="root bottlenecks")) == 0.125
    lines = rejected(run(Config())).sel(scheme="dp(1/4)", claimed="dp(1/2)")
    assert int(lines.sel(pattern="root bottlenecks")) > 0


def test_slopes_of_another_scheme_are_noticed():
    """Negative control: every scheme measured as NTK, so all sound ones but NTK are rejected."""
    record = run(Config()).sel(pattern=["root bottlenecks"])
    swapped = record.assign(slope=record.slope.sel(scheme=["ntk"] * 8).assign_coords(record.coords))
    evidence = check_power.judge(swapped)
    assert evidence.measured[1] == 7
