"""Figure 1: the path past the saddles, and the loss beside it."""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d import Axes3D
from mpl_toolkits.mplot3d.art3d import Line3DCollection

from paper.figures.style import COLOURS, DROP, PLATEAU

#: Where a point's name stands, in units of the axes.
_LABEL_OFFSETS = ((0.1, -0.3, 0.12), (0.1, 0.1, -0.16), (-1.1, 0, 0.06), (-0.95, 0, 0.02))

__all__ = ["phases", "plot_loss", "plot_path", "plot_picture", "plot_singular_values"]

#: Darker partners of the two shadings, for lines on white.
PLATEAU_LINE, DROP_LINE = "#C2528B", "#2A7AB5"


def phases(picture: xr.Dataset, share: float = 0.02) -> list[tuple[str, int, int]]:
    """("plateau" or "drop", first record, last record), in order.

    Plateau k is the stretch around its slowest step on which the loss is within `share` of the
    neighbouring drops' heights of level k.
    """
    loss, steps, levels = picture.loss.values, picture.step.values, picture.level.values
    heights = -np.diff(levels)
    result: list[tuple[str, int, int]] = []
    edge = 0
    for k, step in enumerate(picture.plateau_step.values):
        centre = int(np.searchsorted(steps, int(step)))
        above = share * float(heights[max(k - 1, 0)])
        below = share * float(heights[min(k, len(heights) - 1)])
        inside = (loss <= levels[k] + above) & (loss >= levels[k] - below)
        outside = np.flatnonzero(~inside)
        first = int(outside[outside < centre].max(initial=-1)) + 1
        last = int(outside[outside > centre].min(initial=len(loss))) - 1
        if k:
            result.append(("drop", edge, first))
        result.append(("plateau", first, last))
        edge = last
    return result


def plot_path(picture: xr.Dataset, ax: Axes3D) -> Axes3D:
    """The path in the three directions that its saddles span."""
    x = picture.position.values
    for phase, first, last in phases(picture):
        piece = x[first : last + 1]
        segments = np.stack([piece[:-1], piece[1:]], axis=1)
        colour = PLATEAU_LINE if phase == "plateau" else DROP_LINE
        width = 4 if phase == "plateau" else 1.8
        ax.add_collection3d(Line3DCollection(segments, colors=colour, linewidths=width))
    points = x[np.searchsorted(picture.step, picture.plateau_step.astype(int))]
    points[0] = 0
    for k, point in enumerate(points):
        last = k == len(points) - 1
        ax.scatter(*point, color=COLOURS[2] if last else "black", s=28, depthshade=False)
        name = "minimum" if last else f"saddle {k}"
        ax.text(*(point + np.array(_LABEL_OFFSETS[k])), name, fontsize=8)
    ax.set(
        xlim=(0, x[:, 0].max()),
        ylim=(0, x[:, 1].max()),
        zlim=(0, x[:, 2].max()),
        xlabel=r"$0 \to 1$",
        ylabel=r"$1 \to 2$",
        zlabel=r"$2 \to$ minimum",
    )
    ax.view_init(elev=20, azim=-52)
    ax.set_box_aspect((1.3, 1.1, 0.9), zoom=0.92)
    ax.tick_params(labelsize=7, pad=-2)
    for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
        axis.labelpad = -5
        axis.set_major_locator(MaxNLocator(3))
        axis.set_pane_color((1, 1, 1, 0))
    return ax


def _shade(picture: xr.Dataset, ax: Axes) -> np.ndarray:
    """Plateaus and drops as bands over the steps, which are returned."""
    steps = picture.step.values
    for phase, first, last in phases(picture):
        colour = PLATEAU if phase == "plateau" else DROP
        ax.axvspan(steps[first], steps[last], color=colour, linewidth=0)
    ax.set(xlabel="step", xlim=(0, steps[-1]))
    return steps


def plot_loss(picture: xr.Dataset, ax: Axes) -> Axes:
    """The loss against steps, plateaus and drops shaded, reduced-rank levels dashed.

    The loss axis shows square roots, so that the lower levels stand apart.
    """
    ax.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0)), np.square))
    steps = _shade(picture, ax)
    for k, level in enumerate(picture.level.values):
        ax.axhline(level, color="black", linewidth=0.7, linestyle="--")
        ax.text(steps[-1] * 0.99, level, f"rank {k}", fontsize=8, va="bottom", ha="right")
    ax.plot(steps, picture.loss, color="black")
    ax.set(ylabel="loss (square-root axis)", ylim=(0, 1.1 * float(picture.level[0])))
    return ax


def plot_picture(picture: xr.Dataset) -> Figure:
    """Both halves of figure 1."""
    figure = plt.figure(figsize=(7.4, 3.4))
    grid = figure.add_gridspec(1, 2, width_ratios=(1.1, 1))
    plot_path(picture, figure.add_subplot(grid[0], projection="3d"))
    plot_loss(picture, figure.add_subplot(grid[1]))
    return figure


def plot_singular_values(picture: xr.Dataset, ax: Axes) -> Axes:
    """Singular values of S = [W1, W2'] against steps (log), plateaus and drops shaded."""
    steps = _shade(picture, ax)
    for k, colour in zip(range(4), COLOURS, strict=False):
        values = picture.singular_value.isel(mode=k)
        ax.plot(steps, values, color=colour, label=rf"$\sigma_{k + 1}(S)$")
    ax.set(ylabel="singular values of $S$", yscale="log")
    ax.legend(loc="lower right")
    return ax
