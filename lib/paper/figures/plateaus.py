"""Pictures of plateaus: exponents at each escape, the window of a fixed direction, other losses."""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper.figures.style import COLOURS

__all__ = ["plot_any_loss", "plot_any_start", "plot_exponents", "plot_window"]

#: The small and the large step.
STYLES = ({"fmt": "o", "fillstyle": "full"}, {"fmt": "s", "fillstyle": "none"})


def plot_exponents(result: xr.Dataset) -> Figure:
    """All fitted exponents against the prediction; at escape 1 also the one of gradient flow."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.1))
    for colour, k in zip(COLOURS, result.escape.values, strict=False):
        for style, relative in zip(STYLES, result.relative_step.values, strict=False):
            one = result.sel(escape=k, relative_step=relative)
            left.errorbar(
                one.predicted, one.measured, one.half_width, color=colour, elinewidth=0.8, **style
            )
        left.plot([], [], "o", color=colour, label=f"escape {k}")
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


def plot_any_loss(result: xr.Dataset) -> Figure:
    """Loss curves for each loss, one problem, predicted drops dashed."""
    figure, axes = plt.subplots(2, 2, figsize=(7.2, 4.4))
    for ax, name in zip(axes.flat, result.loss.values, strict=True):
        one = result.sel(loss=name, problem=0)
        ax.plot(one.step, one.curve)
        for step in one.theory.dropna("stage"):
            ax.axvline(float(step), color=COLOURS[1], linestyle="--", linewidth=0.8)
        ax.set(xlabel="step", ylabel=f"{name} loss")
    return figure
