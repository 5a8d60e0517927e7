"""Figure 2 and the comparison of methods that skip plateaus."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper.figures.style import COLOURS, DROP, PLATEAU
from paper.saddles.efficient_algorithm.comparison import Spread
from paper.saddles.efficient_algorithm.measurements import ScaleCost, SecondFigure

__all__ = ["plot_costs", "plot_recovery", "plot_scale_cost", "plot_second_figure"]

BLUE, RED, GREY = COLOURS[0], COLOURS[1], "0.6"


def plot_second_figure(result: SecondFigure) -> Figure:
    """Left: the three curves on one axis of gradient evaluations. Right: the drops laid over
    one another."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.8, 3.2), sharey=True)
    gd = result.losses.numpy()
    steps = np.arange(len(gd))
    left.plot(steps, gd**0.5, color=GREY, label="gradient descent")
    for run, colour, label in (
        (result.skipped, RED, "plateaus skipped, gradient steps"),
        (result.fast, BLUE, "plateaus skipped, quasi-Newton"),
    ):
        x, y = run.path.evaluations.numpy(), run.path.losses.numpy()
        left.plot(x, y**0.5, color=colour, label=label)
        at = list(run.path.saddles)
        left.plot(x[at], y[at] ** 0.5, "o", color=colour)
    left.set(xlabel="gradient evaluations", ylabel="square root of the loss")
    left.legend(loc="upper right")
    levels = result.levels.numpy()
    right.plot(steps, gd**0.5, color=GREY)
    edge, path = 0, result.skipped.path
    for k in range(len(levels) - 1):  # from one saddle to the next; the first record is the jump
        y = path.losses[path.saddles[k] : path.saddles[k + 1] + 1].numpy()
        height = levels[k] - levels[k + 1]
        shift = np.argmax(gd <= levels[k] - height / 2) - np.argmax(y <= levels[k] - height / 2)
        arrived = int(np.argmax(y <= levels[k + 1] + 0.02 * height))
        own = np.arange(1, arrived + 1) + shift
        right.plot(own, y[1 : arrived + 1] ** 0.5, color=RED)
        right.axvspan(edge, own[0], color=PLATEAU, lw=0)
        right.axvspan(own[0], own[-1], color=DROP, lw=0)
        edge = own[-1]
    right.set(xlabel="steps of gradient descent", xlim=(0, len(gd)))
    for ax in (left, right):
        for level in levels:
            ax.axhline(max(level, 0) ** 0.5, color="0.8", lw=0.8, ls="--", zorder=0)
    return figure


def plot_scale_cost(cost: ScaleCost, ax: Axes) -> Axes:
    """Gradient evaluations for the whole staircase against the initial scale."""
    x = -np.log10(cost.scales)
    ax.plot(x, cost.descent, "o", color="black", label="gradient descent, measured")
    start = cost.descent[-1] - cost.predicted * np.log(10) * x[-1]
    ax.plot(x, start + cost.predicted * np.log(10) * x, color=GREY, label="predicted slope")
    ax.axhline(cost.thesis, color=RED, label="skipping, gradient steps")
    ax.axhline(cost.skip, color=BLUE, label="skipping, quasi-Newton")
    ax.set(xlabel=r"$\log_{10}(1/\epsilon)$", ylabel="gradient evaluations", ylim=(0, None))
    ax.legend(loc=(0.52, 0.14))
    return ax


def plot_costs(
    table: Mapping[str, Mapping[str, Spread]], titles: Mapping[str, str], ax: Axes
) -> Axes:
    """Gradient evaluations until the end: problems across, methods down; median over draws, below
    it least and most where they differ.

    Blue: every saddle was approached to 1 % on every draw; pale blue: on some; orange: the end
    only; a cross: the end is missed (as median, on most draws).
    """

    def text(value: float) -> str:
        return "×" if np.isinf(value) else f"{value:.0f}"

    for row, name in enumerate(titles):
        for column, methods in enumerate(table.values()):
            cell = methods.get(name)
            if cell is None or cell.arrived == 0:
                mark = "-" if cell is None else "×"
                ax.text(column, row, mark, ha="center", va="center", color=GREY)
                continue
            always, ever = cell.faithful == cell.draws, cell.faithful > 0
            colour = "#BFDFF3" if always else "#E6F2FA" if ever else "#F9DFC4"
            ax.add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, color=colour, lw=0))
            centre: dict[str, Any] = {"ha": "center", "va": "center"}
            same = cell.least == cell.most
            bold = "bold" if always else "normal"
            options: dict[str, Any] = centre | {"fontsize": 8, "color": "black", "fontweight": bold}
            ax.text(column, row if same else row - 0.17, text(cell.median), **options)
            if not same:
                span = f"{text(cell.least)}–{text(cell.most)}"
                ax.text(column, row + 0.27, span, **centre, fontsize=6, color="0.15")
    ax.set(xlim=(-0.5, len(table) - 0.5), ylim=(len(titles) - 0.5, -0.5))
    ax.set_xticks(range(len(table)), list(table))
    ax.set_yticks(range(len(titles)), list(titles.values()))
    ax.tick_params(length=0)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    ax.xaxis.tick_top()
    return ax


def plot_recovery(found: xr.Dataset, ax: Axes) -> Axes:
    """Test error against gradient evaluations; one small dot a table, one large dot the mean."""
    for method, colour, label in (
        ("large", RED, r"gradient descent, $\epsilon = 0.3$"),
        ("middle", COLOURS[4], r"gradient descent, $\epsilon = 10^{-2}$"),
        ("small", "black", r"gradient descent, $\epsilon = 10^{-6}$"),
        ("skip", BLUE, "plateaus skipped"),
    ):
        own = found.sel(method=method)
        spent, error = own.evaluations, own.error
        ax.plot(spent, error, ".", color=colour, alpha=0.35, ms=4)
        ax.plot(np.exp(np.log(spent).mean()), error.mean(), "o", color=colour, ms=8, label=label)
    ax.set(
        xscale="log",
        xlabel="gradient evaluations until the validation error is least",
        ylabel="relative test error",
        ylim=(0, 2.0),
    )
    ax.legend(loc="upper right")
    return ax
