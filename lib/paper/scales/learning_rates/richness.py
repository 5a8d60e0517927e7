"""The richness r of DP in training: for each r, does its best step size move with the width?"""

from dataclasses import replace
from itertools import pairwise

import xarray as xr

from paper.claims import Evidence
from paper.records import read_record
from paper.scales.learning_rates.transfer import QUICK, learning_rate_sweep, shifts

__all__ = ["FAMILY", "SMALL", "evidence", "read"]

#: DP(r) for r = 0 (NTK) to 1/2.
FAMILY = ("ntk", "dp(1/8)", "dp(1/4)", "dp(3/8)", "dp(1/2)")

#: The sweep of the chapter: 8 x 8 digits, n = 64 to 256.
SMALL = replace(
    QUICK,
    schemes=FAMILY,
    ranges=(
        ("ntk", 0, 3),
        ("dp(1/8)", -1, 3),
        ("dp(1/4)", -2, 2),
        ("dp(3/8)", -2, 2),
        ("dp(1/2)", -3, 1),
    ),
)


def read() -> xr.Dataset:
    """The records of the sweep for all of `FAMILY`, n = 1024 to 4096, as `learning_rate_sweep`."""
    known = read_record("simulations-transfer")
    between = read_record("simulations-transfer-between")
    own = [s for s in FAMILY if s in known.scheme]
    both = [known.sel(scheme=own), between]
    return xr.concat(both, "scheme", combine_attrs="drop", join="outer").sel(scheme=list(FAMILY))


def evidence(*, quick: bool = False) -> Evidence:
    """Claim scales/r-transfer: log2 of the best step size at the largest width, r = 0 to 1/2.

    measured: one value for each r (quick: r = 0, 1/4, 1/2 at small widths); details: the least
    fall from one r to the next, the shifts per doubling of n with their 95 % intervals, and the
    number of optima at an end of the grid.
    """
    sweep = learning_rate_sweep(replace(SMALL, schemes=FAMILY[::2])) if quick else read()
    found, details = shifts(sweep)
    best = [float(f["best"][-1]) for f in found.values()]
    return Evidence(
        measured=best,
        predicted=[0.0] * len(best),
        tolerance=[0.0] * len(best),
        seeds=[int(s) for s in sweep.seed],
        details={
            "least_fall": min(a - b for a, b in pairwise(best)),
            "shift": [f["shift"] for f in found.values()],
            **details,
        },
    )
