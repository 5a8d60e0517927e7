"""Pictures of what small initialisation changes."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.figure import Figure

from paper.figures.style import COLOURS

__all__ = ["plot_small_and_large"]

TASKS = "regression", "completion"


def plot_small_and_large(
    regression: Mapping[float, xr.Dataset], completion: Mapping[float, xr.Dataset]
) -> Figure:
    """Training loss (left) and test error (right) against steps, one colour per initial scale.

    The mappings go from initial scale to outcome. Thick lines: seed 0; thin ones: all other
    seeds; dots: where validation stops seed 0 of the regression.
    """
    figure, axes = plt.subplots(2, 2, figsize=(6.8, 4.6))
    for i, (row, outcomes) in enumerate(zip(axes, (regression, completion), strict=True)):
        for colour, (scale, outcome) in zip(COLOURS, outcomes.items(), strict=False):
            for ax, values in zip(row, (outcome.loss, outcome.test_error), strict=True):
                ax.plot(outcome.step, values[1:].T, color=colour, alpha=0.15, linewidth=0.6)
                ax.plot(outcome.step, values[0], color=colour, label=rf"$\epsilon = ${scale:g}")
            if not i:
                chosen = outcome.chosen_error[0]
                row[1].plot(outcome.chosen[0], chosen, "o", color=colour)
        for ax, name in zip(row, (f"{TASKS[i]}: training loss", "test error"), strict=True):
            ax.set(yscale="log", xlabel="step", ylabel=name, xlim=(0, 1000))
    for ax, limits in zip(axes.flat, ((0.4, 20), (0.02, 2), (1e-7, 10)), strict=False):
        ax.set_ylim(limits)
    axes[0, 0].legend()
    return figure
