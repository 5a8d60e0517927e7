"""Pictures of descents and staircases: the bound of Lemma 2, phases, predicted drops."""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper.figures.style import COLOURS
from paper.saddles.over_the_prior.laws import errors

__all__ = [
    "plot_attention",
    "plot_descent_window",
    "plot_error_decay",
    "plot_over_the_prior",
    "plot_phases",
    "plot_staircases",
]


def plot_descent_window(result: xr.Dataset) -> Axes:
    """One run: what grows outside the leading direction, and three bounds on it."""
    ax = plt.subplots()[1]
    own, other = COLOURS[:2]
    ax.semilogy(result.our_bound, color=own, linewidth=4, alpha=0.35, label="our bound")
    ax.semilogy(result.second, color=own, label=r"$\sigma_2(S)$")
    ax.semilogy(result.outside, color=other, label=r"$\|S(I - P_1)\|$, $P_1$ fixed")
    ax.semilogy(result.own_bound, "--", color=other, label="its bound without forcing")
    shown = result.printed_bound[result.printed_bound < 10]
    ax.semilogy(shown, ":", color="black", label="printed bound")
    ax.set(xlabel="steps after the first escape", ylabel="size outside the leading direction")
    ax.legend()
    return ax


def plot_staircases(result: xr.Dataset) -> Axes:
    """Loss against steps/log(1/epsilon): runs at several scales close in on the predicted jumps."""
    ax = plt.subplots()[1]
    one = result.isel(problem=5)
    exponents = np.log10(one.scale.values).round().astype(int)
    for i, colour in enumerate(COLOURS[:3]):
        steps = one.step * float(one.predicted[0, 0] / one.predicted[i, 0])
        ax.plot(steps, one.loss[i], color=colour, label=rf"$\epsilon = 10^{{{exponents[i]}}}$")
    jumps = one.predicted.values[0]
    edges = [0.0, *jumps, 1.3 * jumps[-1]]
    ax.stairs(
        one.level,
        edges,
        baseline=None,
        color="black",
        linewidth=0.8,
        linestyle="--",
        label="predicted",
    )
    label = rf"steps, shortened to the plateaus of $\epsilon = 10^{{{exponents[0]}}}$"
    ax.set(xlim=(0, edges[-1]), xlabel=label, ylabel="loss")
    ax.legend()
    return ax


def plot_error_decay(result: xr.Dataset) -> Axes:
    """Relative error of every drop time against log(1/epsilon); the grey line falls like 1/log."""
    ax = plt.subplots()[1]
    logs = -np.log(result.scale)
    for colour, k in zip(COLOURS, result["drop"].values, strict=False):
        error = abs(result.error.sel({"drop": k}))
        ax.loglog(logs, error.T, "o-", color=colour, linewidth=0.4, alpha=0.6)
        ax.plot([], [], "o", color=colour, label=f"drop {k}")
    rms = np.sqrt((result.error**2).mean(["problem", "drop"]))
    ax.loglog(logs, rms, color="black", label="root mean square")
    ax.loglog(logs, rms[0] * logs[0] / logs, "--", color="0.5", label=r"$1/\log(1/\epsilon)$")
    ax.set(xlabel=r"$\log(1/\epsilon)$", ylabel="relative error of drop times", ylim=(5e-4, 0.2))
    ax.legend(ncols=2)
    return ax


def plot_phases(generic: xr.Dataset, isotropic: xr.Dataset) -> Figure:
    """Excess loss over the rank-k optimum of the run and of the printed constrained problem."""
    figure, axes = plt.subplots(1, 2, sharey=True, figsize=(7.2, 3.0))
    for ax, phases, name in zip(axes, (isotropic, generic), ("isotropic", "generic"), strict=True):
        k = phases.phase.values
        for shift, values, label, colour in (
            (-0.08, phases.confined, "printed problem", COLOURS[1]),
            (0.08, phases.reached, "gradient descent", COLOURS[0]),
        ):
            x = np.broadcast_to(k + shift, values.shape).ravel()
            y, style = np.maximum(abs(values), 1e-12).values.ravel(), {"fillstyle": "none"}
            ax.semilogy(x, y, "o", color=colour, label=label, **style)
        ax.set(xticks=k, xlabel=f"phase k, {name} inputs")
    axes[0].set_ylabel("excess loss / height of drop k")
    axes[0].legend()
    return figure


def plot_over_the_prior(result: xr.Dataset) -> Figure:
    """Exponents and times over random problems: measured and predicted; error and what is allowed.

    result : `paper.saddles.over_the_prior.laws.run()`.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.4))
    error, floor = errors(result), 1e-8
    for i, start in enumerate(result.start.values):
        off, style = error.exponent.sel(start=start), {"color": COLOURS[i], "markersize": 2.5}
        left.plot(result.exponent, result.exponent + off, ".", label=f"{start} start", **style)
        right.loglog(result.slope, np.maximum(abs(off), floor), ".", **style)
    late = abs(error.time.sel(start="Gaussian"))
    right.loglog(result.slope, np.maximum(late, floor), "+", color="0.5", markersize=3)
    for ax, ends in ((left, (0, 1)), (right, (1e-4, 1))):
        ax.plot(ends, ends, color="black", linewidth=0.6)
    left.set(xlabel="predicted exponent", ylabel="measured exponent")
    right.set(xlabel="allowed error", ylabel="error", ylim=(0.5 * floor, 1))
    handles = [left.lines[0], left.lines[result.sizes["drop"]], right.lines[-2]]
    left.legend(handles, [*(f"{s} start" for s in result.start.values), "times of drops"])
    return figure


def plot_attention(result: xr.Dataset, draws: int = 3) -> Axes:
    """Loss of linear attention from several starts; levels dashed, predicted drops as dots.

    result : `paper.saddles.linear_attention.run()`.
    """
    ax = plt.subplots()[1]
    for level in result.level.values:
        ax.axhline(level, color="0.5", linestyle="--", linewidth=0.7)
    middle = (result.level.values[1:] + result.level.values[:-1]) / 2
    for colour, i in zip(COLOURS, range(draws), strict=False):
        one = result.isel(draw=i)
        ax.plot(one.step[1:], one.loss[1:], color=colour)
        ax.plot(one.predicted, middle, "o", color=colour, fillstyle="none")
    ax.set(xscale="log", xlabel="step", ylabel="loss", xlim=(100, None))
    return ax
