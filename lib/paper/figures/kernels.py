"""The float floor, and what a run and step cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from paper.figures.style import COLOURS
from paper.performance.kernels import FloatFloor

__all__ = ["plot_float_floor", "plot_scaling"]


def plot_float_floor(result: FloatFloor, ax: Axes) -> Axes:
    """Loss against steps: arbitrary precision, rotated float64, plain float64."""
    ax.plot(result.precise, color="black", linewidth=3, alpha=0.35, label="arbitrary precision")
    ax.plot(result.rotated, color=COLOURS[0], label="float64, rotated basis")
    ax.plot(result.plain, color=COLOURS[1], linestyle="--", label="float64, plain")
    for level in result.levels[:-1]:
        ax.axhline(level, color="black", linewidth=0.6, linestyle=":")
    ax.set(xlabel="step", ylabel="loss", ylim=(0, None), xlim=(0, len(result.precise)))
    ax.legend()
    return ax


def plot_scaling(record: Mapping[str, Any], axes: Sequence[Axes]) -> Sequence[Axes]:
    """Microseconds per run and step against batch, width and samples; fitted slopes."""
    names = {"batch": "runs", "width": "hidden width", "samples": "samples"}
    for ax, (axis, label) in zip(axes, names.items(), strict=True):
        for colour, marker, act in ((0, "o", "relu"), (1, "s", "linear")):
            case = record[f"scaling {act} {axis}"]
            x, y = np.array(case["at"], float), np.array(case["microseconds"])
            half = len(x) // 2
            label = f"{'ReLU' if act == 'relu' else act}, {case['slope']:.2f}"
            ax.loglog(x, y, marker, color=COLOURS[colour], label=label)
            middle, height = (np.exp(np.log(v[half:]).mean()) for v in (x, y))
            line = height * (x[half:] / middle) ** case["slope"]
            ax.plot(x[half:], line, color=COLOURS[colour])
        ax.set(xlabel=label)
        ax.legend(title="slope", title_fontsize=8)
    axes[0].set(ylabel="µs per run and step")
    return axes
