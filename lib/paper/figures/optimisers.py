"""Pictures of other optimisers and larger steps: exponents and paces, and the edge of stability."""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from paper.figures.style import COLOURS
from paper.saddles.optimisers.edge import ON_ITS_WAY

__all__ = ["plot_edge", "plot_minibatches", "plot_momentum"]


def plot_momentum(result: xr.Dataset) -> Figure:
    """Left: exponents of all escapes against log z's (dots), of the first against plain descent's
    (crosses). Right: relative errors of the times of the drops."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.1))
    first = result.isel(escape=0)
    plain, measured = first.plain_power.values.ravel(), first.power_measured.values.ravel()
    left.plot(plain, measured, "x", color="0.6", label=r"with $\log(1 + \eta s)$")
    drops = range(1, 1 + result.sizes["escape"])
    for colour, marker, (kind, one) in zip(COLOURS, "os", result.groupby("kind"), strict=False):
        exponents = one.power.values.ravel(), one.power_measured.values.ravel()
        left.plot(*exponents, marker, color=colour, fillstyle="none", label=kind)
        error = 100 * abs(one.pace_measured / one.pace - 1).max(["problem", "kind"])
        for line, beta in zip(("-", "--", ":"), error.momentum, strict=False):
            label = rf"{kind}, $\beta = {float(beta):g}$"
            (curve,) = right.plot(drops, error.sel(momentum=beta), marker + line, label=label)
            curve.set(color=colour, fillstyle="none")
    left.plot([0, 1], [0, 1], color="black", linewidth=0.6)
    left.set(xlabel="predicted exponent", ylabel="fitted exponent")
    left.legend()
    right.axhline(2, color="black", linewidth=0.6)
    right.set(xlabel="drop", ylabel="largest error of its time, %", xticks=[1, 2, 3])
    right.legend(fontsize=7)
    return figure


def plot_minibatches(result: xr.Dataset) -> Figure:
    """Exponents and steps per log(1/epsilon), each over what the full batch would give: measured
    with bars, and from the Lyapunov exponents (dashes), one group for each way to draw."""
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.1))
    at = np.arange(result.sizes["draw"])
    labels = [str(name).replace(", ", "\n") for name in result.draw.values]
    for ax, law, name in zip(axes, ("power", "steps"), ("exponent", "steps"), strict=True):
        one = result.sel(law=law)
        for i, problem in enumerate(one.noisy_problem):
            row, x = one.sel(noisy_problem=problem), at + 0.25 * (i - 1)
            bars = row.half_width / row.plain
            ax.errorbar(x, row.measured / row.plain, bars, color=COLOURS[i], fmt="o", markersize=3)
            ax.plot(x, row.predicted / row.plain, "_", color="black", markersize=14)
        ax.axhline(1, color="0.6", linestyle="--", linewidth=0.8)
        ax.set_xticks(at, labels, fontsize=7)
        ax.set(xlabel="samples of a step, of 40", ylabel=f"{name}, over the full batch's")
    return figure


def plot_edge(result: xr.Dataset) -> Figure:
    """Where runs end, against eta a_max and eta s_1, and against eta a_max and eta a_min."""
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.3), sharex=True)
    kinds = {
        "at the least loss": (result.reached > 0, COLOURS[0], "o"),
        "neither": ((result.reached == 0) & (result.diverged == 0), COLOURS[1], "s"),
        "diverged": (result.diverged > 0, "black", "x"),
    }
    least = (2 * result.share).broadcast_like(result.balanced).transpose(*result.balanced.dims)
    for ax, height in zip(axes, (result.relative_step, least), strict=True):
        for label, (chosen, colour, marker) in kinds.items():
            x, y = (v.values[chosen.values] for v in (result.balanced, height))
            (points,) = ax.plot(x, y, marker, color=colour, label=label)
            points.set(markersize=3, fillstyle="none", alpha=0.7)
        ax.axvline(2, color="black", linestyle=":", linewidth=0.8)
        ax.axvline(ON_ITS_WAY, color="0.6", linestyle=":", linewidth=0.8)
        ax.set(xlabel=r"$\eta\, a_{\max}$, layers balanced", xlim=(0.8, 8))
        ax.set(xscale="log", yscale="log")
        ax.set_xticks([1, 2, 4, 8], ["1", "2", "4", "8"])
        ax.minorticks_off()
    axes[0].set_ylabel(r"$\eta\, s_1$")
    axes[0].set_yticks([0.25, 0.5, 1, 2], ["0.25", "0.5", "1", "2"])
    axes[1].axhline(2, color="black", linewidth=0.8)
    axes[1].set_ylabel(r"$\eta\, a_{\min}$, the flattest layers")
    axes[1].set_yticks([1, 2, 4], ["1", "2", "4"])
    axes[0].legend(fontsize=7)
    return figure
