"""Pictures of plateaus: alignment at each escape, the window of a fixed direction, other losses."""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper.figures.style import COLOURS

__all__ = [
    "plot_alignment",
    "plot_any_loss",
    "plot_any_start",
    "plot_exponents",
    "plot_lengths",
    "plot_window",
]

#: The small and the large step.
STYLES = ({"fmt": "o", "fillstyle": "full"}, {"fmt": "s", "fillstyle": "none"})


def plot_alignment(result: xr.Dataset, problem: int = 0) -> Figure:
    """sigma_{k+1}/sigma_k at escapes 1 to 3 against epsilon, one problem, both step sizes.

    Dots: runs. Lines: the predicted power through the run of the smallest scale.
    """
    figure, axes = plt.subplots(1, 3, sharey=True, figsize=(7.2, 2.9))
    for ax, (k, escape) in zip(axes, result.sel(problem=problem).groupby("escape"), strict=True):
        for colour, (relative, one) in zip(COLOURS, escape.groupby("relative_step"), strict=False):
            one = one.squeeze()
            line = one.ratio[-1] * (one.scale / one.scale[-1]) ** one.predicted
            ax.loglog(one.scale, line, color=colour)
            ax.loglog(one.scale, one.ratio, "o", color=colour, label=rf"$\eta s_1 = {relative:g}$")
        ax.set_xlabel(r"initial scale $\epsilon$")
        ax.annotate(f"escape {k}", (0.05, 0.92), xycoords="axes fraction", va="top", fontsize=8)
    axes[0].set_ylabel(r"$\sigma_{k+1}(S)/\sigma_k(S)$ at escape $k$")
    axes[-1].legend(loc="lower right")
    return figure


def plot_exponents(result: xr.Dataset) -> Figure:
    """All fitted exponents against the prediction; at escape 1 also the one of gradient flow."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.1))
    for colour, k in zip(COLOURS, result.escape.values, strict=False):
        for style, relative in zip(STYLES, result.relative_step.values, strict=False):
            one = result.sel(escape=k, relative_step=relative)
            left.errorbar(
                one.predicted,
                one.measured,
                yerr=one.half_width,
                color=colour,
                elinewidth=0.8,
                label=f"escape {k}" if style is STYLES[0] else None,
                **style,
            )
    left.plot([0, 1], [0, 1], color="black", linewidth=0.6)
    left.set(xlabel="predicted exponent", ylabel="fitted exponent")
    left.legend()
    large = result.sel(relative_step=max(result.relative_step), escape=1)
    right.axhspan(-0.015, 0.015, color="0.9")
    right.plot(large.problem, large.measured - large.predicted, "o", label="finite step")
    right.plot(large.problem, large.measured - large.flow, "x", label="gradient flow")
    right.set(xlabel="problem", ylabel="fitted minus predicted, escape 1")
    right.legend()
    return figure


def plot_window(result: xr.Dataset, problem: int) -> Figure:
    """Left: the printed ratio along the plateau, one curve per scale. Right: its exponents."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.1))
    for scale in result.scale.values[::2]:
        one = result.sel(problem=problem, scale=scale)
        left.loglog(one["size"], one.angle, label=rf"$\epsilon = 10^{{{round(np.log10(scale))}}}$")
    left.set_xlabel(r"size of the leading mode, $\sigma_1(S)$")
    left.set_ylabel(r"$\max_i \|(I - P_1)w_i\|/\|P_1 w_i\|$")
    left.legend()
    judged = result.sel(problem=result.clear)
    right.plot(judged.law, judged.best_power, "o", color=COLOURS[0], label="at the best moment")
    right.plot(judged.law, judged.end_power, "o", color=COLOURS[1], label="at the escape")
    grid = np.linspace(0.25, 0.75, 50)
    right.plot(grid, grid, color="0.6", linewidth=0.8, label="$p_1$, without a direction")
    right.plot(grid, 2 * grid / (2 + grid), color=COLOURS[0], linewidth=0.8)
    right.axhline(0, color=COLOURS[1], linewidth=0.8)
    right.set(xlabel="exponent $p_1$ of the law", ylabel="fitted exponent")
    right.legend(fontsize=7)
    return figure


def plot_lengths(result: xr.Dataset) -> Axes:
    """Steps to the first escape times log(1 + eta s_1) against log(1/epsilon): slopes 1."""
    ax = plt.subplots()[1]
    logs, scaled = -np.log(result.scale), result.steps / result.growth_predicted
    lines = (scaled.isel(scale=0) + logs - logs[0]).stack(line=["relative_step", "problem"])
    ax.plot(logs, lines.transpose("scale", "line"), color="0.8", linewidth=0.6)
    for colour, marker, row in zip(COLOURS, "os", scaled, strict=False):
        points = ax.plot(logs, row.T, marker, color=colour, fillstyle="none")
        points[0].set_label(rf"$\eta s_1 = {row.relative_step:g}$")
    ax.set_xlabel(r"$\log(1/\epsilon)$")
    ax.set_ylabel(r"steps to escape 1, times $\log(1 + \eta s_1)$")
    ax.legend()
    return ax


def plot_any_start(result: xr.Dataset) -> Axes:
    """Fitted minus predicted exponents, one row per kind of start."""
    _, ax = plt.subplots(figsize=(6.4, 3.4))
    ax.axvspan(-0.015, 0.015, color="0.9")
    error, rows = result.measured - result.predicted, np.arange(result.sizes["start"])
    for i, k in enumerate(result.escape.values):
        points = ax.plot(
            error.sel(escape=k), rows + 0.18 * (i - 1), "o", color=COLOURS[i], fillstyle="none"
        )
        points[0].set_label(f"escape {k}")
    ax.set_yticks(rows, result.start.values)
    ax.invert_yaxis()
    ax.set_xlabel("fitted minus predicted exponent")
    ax.legend()
    return ax


def plot_any_loss(result: xr.Dataset, problem: int = 0) -> Figure:
    """Loss curves for each loss, predicted drops dashed."""
    figure, axes = plt.subplots(2, 2, figsize=(7.2, 4.4))
    for ax, name in zip(axes.flat, result.loss.values, strict=True):
        one = result.sel(loss=name, problem=problem)
        ax.plot(one.step, one.curve)
        for step in one.theory.dropna("stage"):
            ax.axvline(float(step), color=COLOURS[1], linestyle="--", linewidth=0.8)
        ax.set(xlabel="step", ylabel=f"{name} loss")
    return figure
