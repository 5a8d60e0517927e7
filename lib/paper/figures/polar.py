"""Pictures of the chapter on polar steps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from learning_dynamics.scales.step_factors import FACTORS
from paper.figures.style import COLOURS

__all__ = [
    "plot_autoencoder",
    "plot_directions",
    "plot_escapes",
    "plot_factors",
    "plot_floor",
    "plot_rest",
    "plot_rules",
]

MARKERS = ("o", "s", "^", "D", "v")


def plot_escapes(polar: xr.Dataset, gradient: xr.Dataset, ax: Axes) -> None:
    """Steps to half of the first direction against n/m: polar steps and gradient descent."""
    for k, marker in zip(polar.modules.values.tolist(), MARKERS, strict=False):
        own, colour = polar.sel(modules=k), COLOURS[k - 2]
        ax.plot(polar.ratio, own.steps.mean("seed"), marker, color=colour)
        ax.axhline(float(own.predicted), color=colour, linewidth=0.6)
        if k in gradient.modules:
            steps = gradient.steps.sel(modules=k).mean("seed").dropna("ratio")
            ax.plot(steps.ratio, steps, ":", marker=marker, color=colour, markerfacecolor="white")
        ax.plot([], [], marker, color=colour, label=f"{k - 1} bottleneck{'s' * (k > 2)}")
    ax.set(xscale="log", yscale="log", xlabel="$n/m$", ylabel="steps")
    ax.legend()


def plot_floor(limit: xr.Dataset, ax: Axes) -> None:
    """Where the loss ends against the step size, for the smallest and the largest n/m."""
    for i, marker in zip(range(limit.sizes["ratio"]), MARKERS, strict=False):
        own = limit.floor.isel(ratio=i)
        label = f"$n/m = 2^{{{np.log2(float(own.ratio)):.0f}}}$"
        ax.plot(limit.rate, own, marker, color=COLOURS[3 * i], label=label)
    square = (limit.rate / limit.rate[0]) ** 2 * limit.floor[0, 0]
    ax.plot(limit.rate, square, color="black", linewidth=0.6)
    ax.set(xscale="log", yscale="log", xlabel=r"$\eta$", ylabel="loss at the end")
    ax.legend()


def plot_factors(runs: xr.Dataset, size: str, axes: Sequence[Axes], label: str) -> None:
    """Best rate, and changes of layers into (solid) and out of (dotted) wide ones, by factor."""
    rate, change = axes
    for (name, factor), colour, marker in zip(FACTORS.items(), COLOURS, MARKERS, strict=False):
        own = runs.sel(factor=name).mean("seed")
        style: dict[str, Any] = {"color": colour, "marker": marker}
        rate.plot(own[size], 2.0**own.best, label=factor.label, **style)
        change.plot(own[size], own.change[:, ::2].mean("layer"), **style)
        change.plot(own[size], own.change[:, 1::2].mean("layer"), ":", **style)
    for ax, words in ((rate, "best rate"), (change, "own change")):
        ax.set_xscale("log", base=2)
        ax.set(yscale="log", xlabel=label, ylabel=words)
    rate.legend()


def plot_autoencoder(runs: xr.Dataset, axes: Sequence[Axes]) -> None:
    """By method against n: best rate over that at the least n, the loss there, least change."""
    rate, loss, change = axes
    for name, colour, marker in zip(runs.optimizer.values, COLOURS, MARKERS, strict=False):
        own = runs.sel(optimizer=name)
        moved = 2.0 ** (own.best - own.best.isel(wide=0).mean()).mean("seed")
        style: dict[str, Any] = {"color": colour, "marker": marker}
        rate.plot(own.wide, moved, label=name, **style)
        loss.plot(own.wide, own.end.min("lattice").mean("seed"), **style)
        change.plot(own.wide, own.change.min("layer").mean("seed"), **style)
    rate.set(ylabel=r"best rate / that at $n = 64$")
    loss.set(ylabel="loss at the end")
    change.set(ylabel="least own change")
    for ax in axes:
        ax.set_xscale("log", base=2)
        ax.set(yscale="log", xlabel="$n$")


def plot_directions(runs: xr.Dataset, axes: np.ndarray) -> None:
    """Shares of three directions that are learned, one row a start, one column a rule."""
    for i, start in enumerate(runs.start.values):
        for j, rule in enumerate(runs.rule.values):
            ax, own = axes[i, j], runs.sel(start=start, rule=rule)
            last = 1.25 * float(own.half.max())
            for k, colour in zip(runs.mode.values, COLOURS, strict=False):
                share = own.learned.sel(mode=k)[: int(last)]
                ax.plot(np.arange(share.size), share, color=colour, label=f"$j = {k}$")
                if rule != runs.rule.values[0]:
                    ax.axvline(float(own.predicted.sel(mode=k)), color=colour, linewidth=0.6)
            ax.set(xlabel="step", ylim=(-0.1, 1.2))
            ax.text(0.03, 0.9, rule, transform=ax.transAxes, fontsize=8)
        axes[i, 0].set_ylabel(start)
    axes[0, 0].legend(loc="lower right")


def plot_rules(runs: xr.Dataset, ax: Axes) -> None:
    """Steps to half of the loss against n/m, by what is added to a polar step."""
    for rule, colour, marker in zip(runs.rule.values, COLOURS, MARKERS, strict=False):
        ax.plot(runs.ratio, runs.half.sel(rule=rule).mean("seed"), marker, ls="-", color=colour)
        ax.plot([], [], marker, ls="-", color=colour, label=rule)
    ax.set(xscale="log", xlabel="$n/m$", ylabel="steps", ylim=(0, None))
    ax.legend(loc="lower right")


def plot_rest(rest: xr.Dataset, ax: Axes) -> None:
    """Singular values of every layer at rest, and their prediction."""
    for k, colour in zip(range(rest.sizes["mode"]), COLOURS, strict=False):
        ax.axhline(float(rest.predicted[k]), color=colour, linewidth=0.6)
        for i, marker in zip(range(rest.sizes["ratio"]), MARKERS, strict=False):
            ax.plot(rest.layer, rest["values"][i, :, k], marker, color=colour)
    ax.set(xlabel="layer", ylabel="singular values", ylim=(0, None))
