"""Predicted exponents against measured ones on patterns of widths, and the ends of r.

The two bottlenecks of Utsunomiya's thesis (n^(1/5) with a small prefactor, so that the asymptotic
slopes are developed), the same with n^(1/2), where n_min grows fast enough to tell one r from
another, equal widths, the slides' n^2, n, n^2, three bottlenecks, and a funnel that only narrows.
Neighbouring widths of a pattern differ by at least n^(1/4): a slope needs its leading term to lead,
and in the close funnel it does not do so at n = 16384.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from learning_dynamics.runtime import generator
from learning_dynamics.scales.exponent_check import Check, WidthFamily, exponent_check, fit_slope
from learning_dynamics.scales.network import MLP
from learning_dynamics.scales.orders import QUANTITIES
from learning_dynamics.scales.parametrizations import SCHEMES, Parametrization, dynamic
from paper.claims import Evidence

__all__ = [
    "PATTERNS",
    "Pattern",
    "Richness",
    "change_norms",
    "check",
    "initial_outputs",
    "main",
    "r_bounds",
    "richness_ends",
]


@dataclass(frozen=True)
class Pattern:
    """A family of widths and the sizes n at which it is measured."""

    family: WidthFamily
    sizes: tuple[int, ...]


PATTERNS: dict[str, Pattern] = {
    "two bottlenecks": Pattern(
        WidthFamily((0, 1, "1/5", 1, "1/5", 1, 0), (8, 1, 8, 1, 8, 1, 2)),
        (1024, 2048, 4096, 8192, 16384, 32768),
    ),
    "equal widths": Pattern(
        WidthFamily((0, 1, 1, 1, 1, 0), (8, 1, 1, 1, 1, 2)), (128, 256, 512, 1024)
    ),
    "n^2, n, n^2": Pattern(WidthFamily((0, 2, 1, 2, 0), (8, 1, 1, 1, 2)), (24, 48, 96, 192)),
    "three bottlenecks": Pattern(
        WidthFamily((0, 1, "1/4", 1, "1/4", 1, "1/4", 1, 0), (8, 1, 8, 1, 8, 1, 8, 1, 2)),
        (1024, 4096, 16384),
    ),
    "funnel": Pattern(WidthFamily((0, 1, "1/2", "1/4", 0), (8, 1, 1, 4, 2)), (1024, 4096, 16384)),
    "root bottlenecks": Pattern(
        WidthFamily((0, 1, "1/2", 1, "1/2", 1, 0), (8, 1, 1, 1, 1, 1, 2)), (1024, 4096, 16384)
    ),
    "close funnel": Pattern(
        WidthFamily((0, 1, "3/4", "1/2", "1/4", 0), (8, 1, 1, 1, 4, 2)), (1024, 4096, 16384)
    ),
}


def check(
    pattern: str,
    schemes: Sequence[str] = tuple(SCHEMES),
    *,
    sizes: Sequence[int] | None = None,
    runs: int = 24,
    quantities: Sequence[str] = tuple(QUANTITIES),
) -> Check:
    """The coordinate check of the book's schemes on one of `PATTERNS`."""
    p = PATTERNS[pattern]
    return exponent_check(
        list(schemes),
        p.family,
        sizes or p.sizes,
        runs=runs,
        seed=f"pattern {pattern}",
        quantities=quantities,
    )


def change_norms(*, quick: bool) -> Evidence:
    """Slopes of |Delta h~_l|, l = 1..5, for DP(1/2): own parts first, totals second.

    On bottlenecks n^(1/2), where the own parts of DP(1/4) grow like n^(1/8), not n^(1/4). details:
    how far beyond the tolerance each own slope lies from that; with n^(1/5) every line would pass.
    96 draws (quick: 24), so that the intervals are narrow enough for all five.
    """
    runs = 24 if quick else 96
    result = check(
        "root bottlenecks",
        ("dp(1/2)",),
        runs=runs,
        sizes=(512, 2048, 8192) if quick else None,
        quantities=("own_change_norm", "change_norm"),
    )
    lines = [
        line
        for q in ("own_change_norm", "change_norm")
        for line in result.select(quantity=q)
        if line.layer <= 5
    ]
    tolerance = [line.interval + 0.05 for line in lines]
    own = zip(lines[:5], tolerance[:5], strict=True)
    return Evidence(
        measured=[line.slope for line in lines],
        predicted=[float(line.predicted) for line in lines],
        tolerance=tolerance,
        seeds=list(range(runs)),
        details={
            "printed_slope": 0.25,
            "beyond_quarter": [abs(line.slope - 0.125) - t for line, t in own],
        },
    )


@dataclass(frozen=True)
class Richness:
    """What r does at equal hidden widths n.

    richness : the values of r. sizes : n.
    output   : (r, size, run), |f(x)| at initialisation.
    ratio    : (r, size, run), |g dW' delta| / |g W' delta| at the last hidden layer, eta = 1.
    peak     : (r, size, run), the largest loss of `steps` steps at eta = 0.3 over that at the
               start, infinite where a run diverged.
    """

    richness: tuple[str, ...]
    sizes: tuple[int, ...]
    output: Tensor
    ratio: Tensor
    peak: Tensor


def richness_ends(
    richness: tuple[str, ...] = ("-1/4", "0", "1/4", "1/2", "3/4"),
    sizes: tuple[int, ...] = (64, 128, 256, 512, 1024),
    runs: int = 8,
    *,
    steps: int = 20,
) -> Richness:
    """Output, backward ratio and early training of DP(r), inside and outside [0, 1/2]."""
    family = WidthFamily((0, 1, 1, 1, 0), (8, 1, 1, 1, 1))
    schemes = [dynamic(r, any_r=True) for r in richness]
    result = exponent_check(
        schemes,
        family,
        sizes,
        runs=runs,
        seed="ends of r",
        quantities=("preactivation_rms", "backward_update_ratio"),
    )
    names = [s.name for s in schemes]
    output = torch.stack([result.values[s]["preactivation_rms"][..., -1] for s in names])
    ratio = torch.stack([result.values[s]["backward_update_ratio"][..., 2] for s in names])
    peak = torch.zeros_like(ratio)
    for i, s in enumerate(schemes):
        for j, n in enumerate(sizes):
            for k in range(runs if steps else 0):
                peak[i, j, k] = _peak(MLP(s(family(n)), generator=generator("ends", n, k)), steps)
    return Richness(richness, sizes, output, ratio, peak)


def _peak(model: MLP, steps: int) -> float:
    """Largest loss of a short run over its first loss (infinite if the run diverges)."""
    g = generator("ends, data")
    x = torch.randn(16, model.parametrization.widths[0], generator=g)
    y = torch.randn(16, 1, generator=g)
    optimizer = torch.optim.SGD(model.parameter_groups(0.3))
    losses = []
    for _ in range(steps):
        loss = 0.5 * (model(x) - y).square().mean()
        losses.append(float(loss.detach()))
        if not losses[-1] < 1e6:
            return float("inf")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return max(losses) / losses[0]


def initial_outputs(
    parametrization: Parametrization, draws: int, generator: torch.Generator
) -> Tensor:
    """|f(x)| at the start over independent networks, (draws,), ReLU, input of RMS 1.

    Exact in law, and no weight is drawn: given h, the vector W h is Gaussian with deviation
    gamma sigma |h| in every entry, because W does not depend on h. One output.
    """
    p = parametrization
    norm = torch.full((draws, 1), float(p.widths[0]) ** 0.5, dtype=torch.float64)
    for g, std, n in zip(p.multipliers, p.weight_stds, p.widths[1:], strict=True):
        z = torch.randn(draws, n, generator=generator, dtype=torch.float64)
        signal = g * std * norm * z
        norm = signal.relu().norm(dim=1, keepdim=True)
    return signal[:, 0].abs()


def r_bounds(*, quick: bool) -> Evidence:
    """Growth of the output and of the backward ratio with n, for r = -1/4, 0, 1/2, 3/4.

    The output |f| of one network is nearly half-normal, with a spread of 3/4 of its mean; so it
    is averaged over 4000 draws. The ratio is nearly the same in each of 32 draws.
    """
    values = ("-1/4", "0", "1/2", "3/4")
    seeds: tuple[int | str, ...] = ("-1/4", 0, "1/2", "3/4")
    sizes = (64, 128, 256, 512) if quick else (64, 128, 256, 512, 1024)
    result = richness_ends(values, sizes, 32, steps=0)
    family = WidthFamily((0, 1, 1, 1, 0), (8, 1, 1, 1, 1))
    output = [
        torch.stack(
            [
                initial_outputs(dynamic(v, any_r=True)(family(n)), 4000, generator("output", s, n))
                for n in sizes
            ]
        )
        for v, s in zip(values, seeds, strict=True)
    ]
    fits = [fit_slope(sizes, table) for table in (*output, *result.ratio)]
    r = [-0.25, 0.0, 0.5, 0.75]
    return Evidence(
        measured=[f[0] for f in fits],
        predicted=[-v for v in r] + [v - 0.5 for v in r],
        tolerance=[f[1] + 0.05 for f in fits],
        seeds=list(range(32)),
        details={"output_draws": 4000.0},
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The coordinate check from the command line; returns 0 if every verdict is "agrees"."""
    parser = argparse.ArgumentParser(
        prog="exponent-check",
        description="Measured growth exponents of the book's schemes beside the predicted ones.",
    )
    parser.add_argument(
        "schemes",
        nargs="*",
        default=["dp(1/2)", "spectral"],
        help=f"any of {', '.join(SCHEMES)}, dp(r)",
    )
    parser.add_argument("--pattern", choices=list(PATTERNS), default="two bottlenecks")
    parser.add_argument("--sizes", type=int, nargs="+", default=None, metavar="N")
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument(
        "--quantities",
        nargs="+",
        choices=list(QUANTITIES),
        metavar="QUANTITY",
        default=["preactivation_rms", "change_rms", "own_contribution", "cosine"],
    )
    given = parser.parse_args(argv)
    try:
        result = check(
            given.pattern,
            given.schemes,
            sizes=given.sizes,
            runs=given.runs,
            quantities=given.quantities,
        )
    except ValueError as error:
        parser.error(str(error))
    print(result.table())
    print("all agree" if result.agrees else "! differs from the prediction, ? interval too wide")
    return 0 if result.agrees else 1
