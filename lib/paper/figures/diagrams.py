"""Drawings of what the text speaks about: saddles, a unit, a net with bottlenecks, the dial."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle

from paper.figures.saddle_to_saddle import DROP_LINE, PLATEAU_LINE
from paper.figures.style import COLOURS, DROP, PLATEAU

__all__ = ["bottlenecks", "dial", "saddle_to_saddle", "two_changes", "unit"]

BLUE, RED, GREEN = COLOURS[:3]


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], **how: Any) -> None:
    style: dict[str, Any] = {
        "arrowstyle": "-|>",
        "mutation_scale": 9,
        "lw": 1.2,
        "color": "black",
    } | how
    ax.add_patch(FancyArrowPatch(start, end, shrinkA=0, shrinkB=0, **style))


def _bare(ax: Axes, width: float, height: float) -> None:
    ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    ax.axis("off")


def saddle_to_saddle(weights: Axes, loss: Axes) -> None:
    """Figure 1 of Arata's thesis as a schematic: the path of the weights, the loss beside it."""
    _bare(weights, 10, 8)
    corners = np.array([(1.7, 1.0), (5.7, 1.0), (8.1, 2.85), (8.1, 6.6)])
    for tip in ((9.9, 1.0), (4.9, 3.47), (1.7, 7.4)):
        _arrow(weights, (1.7, 1.0), tip, color="0.6", lw=0.8)
    bends = ((0, -0.1), (0.12, -0.16), (0.15, 0))
    for start, end, bend in zip(corners, corners[1:], bends, strict=False):
        t = np.linspace(0, 1, 61)[:, None]
        path = start + (end - start) * t + 4 * np.array(bend) * t * (1 - t)
        weights.plot(*path.T, color=DROP_LINE, lw=1.8)
        x, y = path.T
        _arrow(weights, (x[42], y[42]), (x[44], y[44]), color=DROP_LINE)
        for piece in (path[:22], path[54:] if end[1] < 6 else path[:2]):
            weights.plot(*piece.T, color=PLATEAU_LINE, lw=4, solid_capstyle="round")
    names = ("saddle,\nrank 0", "saddle,\nrank 1", "saddle,\nrank 2", "minimum")
    for point, name in zip(corners, names, strict=True):
        weights.plot(*point, "o", color=GREEN if name == "minimum" else "black", zorder=3)
        weights.text(point[0] - 0.25, point[1] + 0.25, name, ha="right")
    steps, falls, heights = np.linspace(0, 10, 400), (2, 5, 8), (1.6, 1.1, 0.7)
    curve = 0.2 + sum(
        height / (1 + np.exp(8 * (steps - fall - 0.5)))
        for height, fall in zip(heights, falls, strict=True)
    )
    for fall in falls:
        loss.axvspan(fall - 2, fall, color=PLATEAU, lw=0)
        loss.axvspan(fall, fall + 1, color=DROP, lw=0)
    loss.plot(steps, curve, color="black")
    loss.text(1, 3.75, "plateau", ha="center", fontsize=8)
    loss.text(2.5, 0.4, "drop", ha="center", fontsize=8, rotation=90)
    loss.set(xlim=(0, 10), ylim=(0, 4.1), xticks=[], yticks=[], xlabel="step", ylabel="loss")


def unit(ax: Axes) -> None:
    """One hidden unit: a row of W1 comes in, a column of W2 goes out; together they are w_i."""
    _bare(ax, 10, 4)
    ins, outs, at = [(1.2, y) for y in (0.7, 1.6, 2.5, 3.4)], [(5.6, 1.2), (5.6, 2.8)], (3.4, 2.05)
    for point in ins:
        ax.plot(*zip(point, at, strict=True), color=BLUE, lw=1.6, zorder=0)
    for point in outs:
        ax.plot(*zip(at, point, strict=True), color=RED, lw=1.6, zorder=0)
    for point in (*ins, *outs):
        ax.add_patch(Circle(point, 0.2, fc="white", ec="black"))
    ax.add_patch(Circle(at, 0.34, fc=DROP, ec="black"))
    ax.text(*at, r"$\sigma$", ha="center", va="center")
    ax.text(0.8, 2.05, "$x$", ha="right", va="center")
    ax.text(6.0, 2.05, "$f(x)$", va="center")
    ax.text(2.2, 0.35, "row $i$ of $W_1$", color=BLUE, ha="center")
    ax.text(4.7, 3.4, "column $i$ of $W_2$", color=RED, ha="center")
    for k in range(6):
        colour = BLUE if k < 4 else RED
        ax.add_patch(Rectangle((8.2, 3.4 - 0.5 * k), 0.5, 0.5, fc="white", ec=colour, lw=1.6))
    ax.text(8.95, 2.4, "$w_i$", va="center")


def bottlenecks(ax: Axes) -> None:
    """Widths n, m, n, m, n: what the forward pass keeps, and what the backward pass keeps."""
    _bare(ax, 12, 5.4)
    names = ("$n_0$", "$n$", "$m$", "$n$", "$m$", "$n$", "$n_L$")
    heights = (0.7, 3.0, 1.0, 3.0, 1.0, 3.0, 0.4)
    centres = [0.8 + 1.72 * k for k in range(7)]
    for k, (x, height, name) in enumerate(zip(centres, heights, names, strict=True)):
        hidden = 0 < k < 6
        face = (PLATEAU if height < 2 else DROP) if hidden else "white"
        ax.add_patch(Rectangle((x - 0.2, 2.7 - height / 2), 0.4, height, fc=face, ec="black"))
        ax.text(x, 2.7 + height / 2 + 0.12, name, ha="center", va="bottom")
    for k in range(6):
        a, b = centres[k] + 0.32, centres[k + 1] - 0.32
        _arrow(ax, (a, 2.9), (b, 2.9), color=BLUE)
        _arrow(ax, (b, 2.5), (a, 2.5), color=RED)
    ax.text(6, 4.95, "forward: the root mean square is kept", color=BLUE, ha="center")
    ax.text(6, 0.1, "backward: the norm is kept", color=RED, ha="center")
    for x, height in zip(centres[1:6], heights[1:6], strict=True):
        size = r"$\sqrt{n}$" if height > 2 else r"$\sqrt{m}$"
        ax.text(x, 0.62, rf"$\|h\|\sim${size}", ha="center", fontsize=8, color=BLUE)


def two_changes(ax: Axes) -> None:
    """The change of a layer's signal: its own weights push along delta, its input mostly aside."""
    _bare(ax, 10, 4)
    origin, own, total = (1.5, 0.6), (1.5, 2.1), (6.5, 3.3)
    _arrow(ax, origin, (1.5, 3.8), color="0.6", linestyle="--")
    ax.text(1.3, 3.6, r"$-\delta_l$", ha="right")
    _arrow(ax, origin, own, color=BLUE, lw=2.2)
    _arrow(ax, own, total, color=RED, lw=2.2)
    _arrow(ax, origin, total, lw=2.2)
    ax.text(1.35, 1.4, "own:\n$W_l$ moved", color=BLUE, ha="right", va="center")
    ax.text(3.7, 3.0, "upstream: its input moved", color=RED, ha="center", va="bottom", rotation=13)
    ax.text(4.5, 1.45, r"$\Delta\tilde h_l$", ha="left")
    ax.text(2.0, 1.25, r"$\theta_l$")
    ax.text(6.9, 3.3, "after a bottleneck\n$\\cos\\theta_l$ falls by $\\sqrt{m/n}$", va="center")


def dial(ax: Axes) -> None:
    """The dial of one output scale: where known schemes lie, and what a run looks like there."""
    _bare(ax, 12, 4.4)
    parts = (
        (0.4, 5.2, "white", "lazy", "all directions at once,\nfeatures hardly move"),
        (5.2, 8.2, DROP, "features move", "one direction leads,\nnothing waits"),
        (8.2, 11.6, PLATEAU, "saddle to saddle", "a plateau, then\none after another"),
    )
    for left, right, colour, name, words in parts:
        ax.add_patch(Rectangle((left, 1.7), right - left, 0.8, fc=colour, ec="black"))
        ax.text((left + right) / 2, 2.1, name, ha="center", va="center")
        ax.text((left + right) / 2, 1.5, words, ha="center", va="top", fontsize=8)
    marks = ((1.2, "NTK"), (3.7, r"DP($\frac{1}{4}$)"), (6.4, r"DP($\frac{1}{2}$), $\mu$P"))
    for x, name in (*marks, (10.0, "Spectral")):
        ax.plot((x, x), (2.5, 2.75), color="black", lw=1.2)
        ax.text(x, 2.85, name, ha="center", va="bottom")
    _arrow(ax, (0.4, 0.2), (11.6, 0.2))
    ax.text(6, 0.3, "richer: smaller output scale, larger learning rate", ha="center", va="bottom")
