"""Pictures of plateaus: alignment at each escape, the window of a fixed direction, other losses."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper.saddles.plateau.any_loss import AnyLoss
from paper.saddles.plateau.any_start import AnyStart
from paper.saddles.plateau.alignment import Alignment
from paper.saddles.plateau.controls import FixedDirection
from paper.figures.style import COLOURS

__all__ = [
    "plot_alignment",
    "plot_any_loss",
    "plot_any_start",
    "plot_exponents",
    "plot_lengths",
    "plot_window",
]


def plot_alignment(result: Alignment, problem: int = 0) -> Figure:
    """sigma_{k+1}/sigma_k at escapes 1 to 3 against epsilon, one problem, both step sizes.

    Dots: runs. Lines: the predicted power through the run of the smallest scale.
    """
    figure, axes = plt.subplots(1, 3, sharey=True, figsize=(7.2, 2.9))
    for k, ax in enumerate(axes):
        for r, relative in enumerate(result.relative_steps):
            colour = COLOURS[r]
            ratio = result.ratios[r, problem, :, k]
            power = result.predicted[r, problem, k]
            line = ratio[-1] * (result.scales / result.scales[-1]) ** power
            ax.loglog(result.scales, line, color=colour)
            ax.loglog(
                result.scales, ratio, "o", color=colour, label=rf"$\eta s_1 = {relative:g}$"
            )
        ax.set_xlabel(r"initial scale $\epsilon$")
        ax.annotate(
            f"escape {k + 1}", (0.05, 0.92), xycoords="axes fraction", va="top", fontsize=8
        )
    axes[0].set_ylabel(r"$\sigma_{k+1}(S)/\sigma_k(S)$ at escape $k$")
    axes[-1].legend(loc="lower right")
    return figure


def plot_exponents(result: Alignment) -> Figure:
    """All fitted exponents against the prediction; at escape 1 also the one of gradient flow."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.1))
    for k in range(result.measured.shape[-1]):
        for r, marker in enumerate(("o", "s")[: len(result.relative_steps)]):
            left.errorbar(
                result.predicted[r, :, k],
                result.measured[r, :, k],
                yerr=result.interval[r, :, k],
                fmt=marker,
                color=COLOURS[k],
                fillstyle="none" if r else "full",
                elinewidth=0.8,
                label=f"escape {k + 1}" if r == 0 else None,
            )
    left.plot([0, 1], [0, 1], color="black", linewidth=0.6)
    left.set_xlabel("predicted exponent")
    left.set_ylabel("fitted exponent")
    left.legend()
    large = int(result.relative_steps.argmax())
    problems = np.arange(result.measured.shape[1])
    measured = result.measured[large, :, 0]
    right.axhspan(-0.015, 0.015, color="0.9")
    right.plot(problems, measured - result.predicted[large, :, 0], "o", label="finite step")
    right.plot(problems, measured - result.flow[:, 0], "x", label="gradient flow")
    right.set_xlabel("problem")
    right.set_ylabel("fitted minus predicted, escape 1")
    right.legend()
    return figure


def plot_window(result: FixedDirection, problem: int) -> Figure:
    """Left: the printed ratio along the plateau, one curve per scale. Right: its exponents."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.1))
    for i in range(0, len(result.scales), 2):
        exponent = round(float(result.scales[i].log10()))
        left.loglog(
            result.sizes[problem, i],
            result.curves[problem, i],
            label=rf"$\epsilon = 10^{{{exponent}}}$",
        )
    left.set_xlabel(r"size of the leading mode, $\sigma_1(S)$")
    left.set_ylabel(r"$\max_i \|(I - P_1)w_i\|/\|P_1 w_i\|$")
    left.legend()
    clear = result.law >= 0.3
    law = result.law[clear]
    for name, colour, label in (
        ("best", COLOURS[0], "at the best moment"),
        ("end", COLOURS[1], "at the escape"),
    ):
        right.plot(law, result.slope(name)[0][clear], "o", color=colour, label=label)
    grid = torch.linspace(0.25, 0.75, 50)
    right.plot(grid, grid, color="0.6", linewidth=0.8, label="$p_1$, without a direction")
    right.plot(grid, 2 * grid / (2 + grid), color=COLOURS[0], linewidth=0.8)
    right.axhline(0, color=COLOURS[1], linewidth=0.8)
    right.set_xlabel("exponent $p_1$ of the law")
    right.set_ylabel("fitted exponent")
    right.legend(fontsize=7)
    return figure


def plot_lengths(result: Alignment) -> Axes:
    """Steps to the first escape times log(1 + eta s_1), against log(1/epsilon): lines of slope 1."""
    ax = plt.subplots()[1]
    logs = -result.scales.log()
    for r, (relative, marker) in enumerate(zip(result.relative_steps, "os", strict=False)):
        scaled = result.lengths[r] / result.length_predicted[r, :, None]
        for i, row in enumerate(scaled):
            ax.plot(logs, row[0] + logs - logs[0], color="0.8", linewidth=0.6)
            ax.plot(
                logs,
                row,
                marker,
                color=COLOURS[r],
                fillstyle="none",
                label=rf"$\eta s_1 = {relative:g}$" if i == 0 else None,
            )
    ax.set_xlabel(r"$\log(1/\epsilon)$")
    ax.set_ylabel(r"steps to escape 1, times $\log(1 + \eta s_1)$")
    ax.legend()
    return ax


def plot_any_start(result: AnyStart) -> Axes:
    """Fitted minus predicted exponents, one row per kind of start."""
    figure, ax = plt.subplots(figsize=(6.4, 3.4))
    names = list(result.measured)
    ax.axvspan(-0.015, 0.015, color="0.9")
    for row, name in enumerate(names):
        error = result.measured[name] - result.predicted[name]
        near = name.startswith("near")
        for k in range(error.shape[1]):
            at = int(name.split("rank-")[1][0]) if near else k
            ax.plot(
                error[:, k],
                np.full(len(error), row + 0.18 * (at - 1)),
                "o",
                color=COLOURS[at],
                fillstyle="none",
                label=f"escape {at + 1}" if row == 0 else None,
            )
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xlabel("fitted minus predicted exponent")
    ax.legend()
    return ax


def plot_any_loss(results: Mapping[str, AnyLoss], problem: int = 0) -> Figure:
    """Loss curves for each loss, predicted drops dashed; ranks of the plateaus written in."""
    figure, axes = plt.subplots(2, 2, figsize=(7.2, 4.4))
    for ax, (name, result) in zip(axes.flat, results.items(), strict=False):
        ax.plot(result.steps, result.losses[problem])
        for step in result.theory[problem]:
            ax.axvline(float(step), color=COLOURS[1], linestyle="--", linewidth=0.8)
        ax.set_xlabel("step")
        ax.set_ylabel(f"{name} loss")
    return figure
