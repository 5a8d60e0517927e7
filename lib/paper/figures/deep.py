"""Figures of the chapter on deep nets."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from learning_dynamics.runtime import Trajectory
from paper.figures.style import COLOURS

__all__ = [
    "plot_directions",
    "plot_escape_times",
    "plot_pairs",
    "plot_rank_ratios",
    "plot_schedules",
]


def plot_schedules(runs: Mapping[str, Trajectory], levels: Sequence[float], ax: Axes) -> Axes:
    """Loss against sweeps (log axis) for each schedule, rank-k levels dashed."""
    styles = ("-", "--", "-.", ":")
    for (name, run), style, colour in zip(runs.items(), styles, COLOURS, strict=False):
        ax.plot(run.steps[1:].numpy(), run["loss"][0, 1:].numpy(), style, color=colour, label=name)
    for level in levels:
        ax.axhline(level, color="black", linewidth=0.6, linestyle=":")
    ax.set(xlabel="sweep", ylabel="loss", xscale="log")
    ax.legend(loc="lower left")
    return ax


def plot_escape_times(linear: xr.Dataset, relu: xr.Dataset) -> Figure:
    """Sweeps (linear) and time (ReLU) against epsilon, all draws; lines of slope -(L - 2)."""
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3))
    for ax, counted in zip(axes, (linear.sweeps.isel(schedule=0), relu.time), strict=True):
        for colour, depth in zip(COLOURS, counted.depth.values, strict=False):
            one = counted.sel(depth=depth)
            ax.loglog(one.scale, one.T, "o", color=colour, markersize=2)
            line = np.exp(np.log(one[:, 0]).mean()) * (one.scale / one.scale[0]) ** (2 - depth)
            ax.loglog(one.scale, line, color=colour, label=f"depth {depth}, slope {2 - depth}")
        ax.set_xlabel(r"$\epsilon$")
    axes[0].set_ylabel("sweeps to the escape, linear")
    axes[1].set_ylabel("time on the plateau, ReLU")
    axes[0].legend()
    return figure


def plot_rank_ratios(linear: xr.Dataset, relu: xr.Dataset) -> Figure:
    """sigma_2/sigma_1 of every layer at the escape against epsilon, all draws; dashed: slope 1."""
    figure, axes = plt.subplots(2, 3, sharex=True, sharey=True, figsize=(7.2, 4.4))
    both = {"linear": linear.ratio.isel(schedule=0), "ReLU": relu.ratio}
    for row, (name, ratio) in zip(axes, both.items(), strict=True):
        for ax, depth in zip(row, ratio.depth.values, strict=True):
            one = ratio.sel(depth=depth)
            for layer in reversed(range(depth)):
                lines = ax.loglog(one.scale, one[..., layer].T, linewidth=0.6)
                plt.setp(lines, color=COLOURS[layer == 0])
                if layer < 2:
                    lines[0].set_label("other layers" if layer else "$W_1$")
            ax.loglog(one.scale, one.scale, "k--", linewidth=0.8)
            ax.text(0.03, 0.9, f"{name}, depth {depth}", transform=ax.transAxes, fontsize=8)
            axes[1, depth - 3].set_xlabel(r"$\epsilon$")
        row[0].set_ylabel(r"$\sigma_2 / \sigma_1$")
    axes[1, 2].legend(loc="lower right")
    return figure


def plot_directions(result: xr.Dataset, depth: int, draw: int) -> Figure:
    """Left: rank and direction of one draw against epsilon. Right: all exponents of directions."""
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3))
    one = result.sel(depth=depth, draw=draw)
    angle = np.degrees(np.arctan(one.angle.sel(side="input")))
    ratio = one.ratio.isel(schedule=0, layer=0)
    axes[0].loglog(one.scale, ratio, "o-", color=COLOURS[0], label=r"$\sigma_2/\sigma_1$ of $W_1$")
    axes[0].loglog(one.scale, angle, "s-", color=COLOURS[1], label="angle of $W_1$, degrees")
    axes[0].set_xlabel(r"$\epsilon$")
    axes[0].legend()
    axes[1].plot((0, 1), (0, 1), color="black", linewidth=0.8)
    for colour, number in zip(COLOURS, result.depth.values, strict=False):
        at = result.sel(depth=number)
        for side, marker in (("input", "o"), ("output", "s")):
            (points,) = axes[1].plot(at.predicted, at.early_power.sel(side=side), marker)
            points.set(color=colour, fillstyle="none", markersize=4)
        points.set_label(f"depth {number}")
    axes[1].set(xlabel="$1 - s_2/s_1$", ylabel="fitted exponent of the direction")
    axes[1].legend()
    return figure


def plot_pairs(result: xr.Dataset) -> Figure:
    """Measured and predicted exponents of sigma_2/sigma_1 if one pair of layers is trained."""
    figure, ax = plt.subplots(figsize=(3.6, 3.2))
    top = float(result.alignment.max())
    ax.plot((0, top), (0, top), color="black", linewidth=0.8)
    for colour, depth in zip(COLOURS, result.depth.values, strict=False):
        at, label = result.sel(depth=depth), f"depth {depth}"
        x, y = at.alignment_predicted, at.alignment
        ax.errorbar(x, y, 5 * at.error, fmt="o", color=colour, ms=3, lw=0.6, label=label)
    ax.set(xlabel=r"$\frac{L}{2}(1 - g)$", ylabel="fitted exponent")
    ax.legend()
    return figure
