"""Pictures of anisotropy: the path that bends, the angle it bends by, order and test error."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper.figures.style import COLOURS

__all__ = ["plot_bends", "plot_order", "plot_rotation", "plot_test_errors"]


def plot_bends(bends: Mapping[str, xr.Dataset]) -> Figure:
    """The map of a net with two inputs and one output, from the origin to the target.

    Grey: level sets of the loss. Dashed: the escape direction. Blue: the path of W2 W1.
    """
    figure, axes = plt.subplots(1, len(bends), figsize=(7.2, 3.2), sharex=True, sharey=True)
    grid = np.linspace(-0.35, 1.9, 121)
    points = np.stack(np.meshgrid(grid - 0.25, grid), axis=-1)
    for ax, (name, bend) in zip(axes, bends.items(), strict=True):
        xx, yx = bend.xx.values, bend.yx.values
        target = np.linalg.solve(xx, yx)
        away = points - target
        height, top = 0.5 * (away @ xx * away).sum(-1), 0.5 * target @ yx
        levels = top * np.array([0.02, 0.15, 0.4, 0.7, 1.0])
        ax.contour(grid - 0.25, grid, height, levels, colors="0.8", linewidths=0.8)
        ends = np.outer((0, 1.35), yx / np.linalg.norm(yx))
        ax.plot(*ends.T, "--", color=COLOURS[1], label=r"escape, $\Sigma_{yx}$")
        ax.plot(*bend.product.values.T, color=COLOURS[0], label="path of $W$")
        ax.plot(0, 0, "o", color="black")
        ax.plot(*target, "*", color="black", markersize=9)
        ax.set(aspect="equal", xlabel=f"first input\n({name})")
    axes[0].set_ylabel("second input")
    axes[0].legend(loc="lower right", fontsize=7)
    return figure


def plot_rotation(result: xr.Dataset) -> Axes:
    """Measured against predicted rotation between escape and rest, one dot per problem."""
    ax = plt.subplots(figsize=(4.2, 3.6))[1]
    for side, marker, colour in zip(result.side.values, "os", COLOURS, strict=False):
        one, style = result.sel(side=side), {"color": colour, "fillstyle": "none", "label": side}
        ax.plot(one.predicted, one.measured, marker, **style)
    end = 1.05 * float(result.predicted.max())
    ax.plot([0, end], [0, end], color="black", linewidth=0.6)
    ax.set(xlabel="predicted angle (degrees)", ylabel="measured angle (degrees)")
    ax.legend()
    return ax


def plot_order(result: xr.Dataset) -> Axes:
    """Loss curves of nearly commuting inputs, with the two possible first plateaus."""
    ax = plt.subplots()[1]
    for colour, angle, loss in zip(COLOURS, result.angle.values, result.loss, strict=False):
        ax.plot(result.step, loss, color=colour, label=rf"turned by ${angle:g}^\circ$")
    for mode, style in (("mode 1", "--"), ("mode 2", ":")):
        ax.axhline(result.level.sel(learned=mode), color="0.5", linestyle=style, linewidth=0.8)
    ax.set(xlabel="step", ylabel="loss")
    ax.legend()
    return ax


def plot_test_errors(result: xr.Dataset) -> Axes:
    """Mean test error along the run, one curve per covariance."""
    ax = plt.subplots()[1]
    for colour, name in zip(COLOURS, result.covariance.values, strict=False):
        mean = result.sel(covariance=name).mean("problem")
        ax.semilogy(mean.step, mean.error, color=colour, label=name)
        ax.axhline(mean.saddle[2], color=colour, linestyle=":", linewidth=0.8)
    ax.set(xlabel="step", ylabel="error on noiseless targets")
    ax.legend()
    return ax
