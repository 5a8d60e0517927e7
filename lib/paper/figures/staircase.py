"""Pictures of descents and staircases: the bound of Lemma 2, phases, predicted drops."""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper.figures.style import COLOURS
from paper.saddles.descent.constrained_phase import Phases
from paper.saddles.descent.staircase_times import Times
from paper.saddles.descent.window import Window
from paper.saddles.over_the_prior.laws import errors

__all__ = [
    "plot_descent_window",
    "plot_error_decay",
    "plot_over_the_prior",
    "plot_phases",
    "plot_staircases",
]


def plot_descent_window(result: Window) -> Axes:
    """One run: what grows outside the leading direction, and three bounds on it."""
    ax = plt.subplots()[1]
    curve = result.curves
    step = curve["step"]
    ax.semilogy(step, curve["bound"], color=COLOURS[0], linewidth=4, alpha=0.35, label="our bound")
    ax.semilogy(step, curve["second"], color=COLOURS[0], label=r"$\sigma_2(S)$")
    ax.semilogy(step, curve["outside"], color=COLOURS[1], label=r"$\|S(I - P_1)\|$, $P_1$ fixed")
    ax.semilogy(step, curve["fixed"], "--", color=COLOURS[1], label="its bound without forcing")
    shown = curve["printed"] < 10
    ax.semilogy(step[shown], curve["printed"][shown], ":", color="black", label="printed bound")
    ax.set_xlabel("steps after the first escape")
    ax.set_ylabel("size outside the leading direction")
    ax.legend()
    return ax


def plot_staircases(result: Times, problem: int = 5, scales: tuple[int, ...] = (0, 1, 2)) -> Axes:
    """Loss against steps/log(1/epsilon): runs at several scales close in on the predicted jumps."""
    ax = plt.subplots()[1]
    count = len(result.scales)
    levels = result.levels[problem]
    for colour, i in zip(COLOURS, scales, strict=False):
        scale = result.scales[i]
        size = float(result.predicted[problem, i, 0] / result.predicted[problem, 0, 0])
        steps = result.track.steps / size
        exponent = round(float(scale.log10()))
        ax.plot(
            steps,
            result.track.losses[problem * count + i],
            color=colour,
            label=rf"$\epsilon = 10^{{{exponent}}}$",
        )
    jumps = result.predicted[problem, 0]
    ax.stairs(
        levels,
        [0.0, *jumps.tolist(), float(1.3 * jumps[-1])],
        baseline=None,
        color="black",
        linewidth=0.8,
        linestyle="--",
        label="predicted",
    )
    ax.set_xlim(0, 1.3 * float(jumps[-1]))
    exponent = round(float(result.scales[0].log10()))
    ax.set_xlabel(rf"steps, shortened to the plateaus of $\epsilon = 10^{{{exponent}}}$")
    ax.set_ylabel("loss")
    ax.legend()
    return ax


def plot_error_decay(result: Times) -> Axes:
    """Relative error of every drop time against log(1/epsilon); the grey line falls like 1/log."""
    ax = plt.subplots()[1]
    logs = -result.scales.log()
    for k in range(result.error.shape[-1]):
        error = result.error[..., k].abs()
        ax.loglog(logs, error.T, "o-", color=COLOURS[k], linewidth=0.4, alpha=0.6)
        ax.plot([], [], "o", color=COLOURS[k], label=f"drop {k + 1}")
    rms = result.error.square().mean((0, 2)).sqrt()
    ax.loglog(logs, rms, color="black", label="root mean square")
    ax.loglog(logs, rms[0] * logs[0] / logs, "--", color="0.5", label=r"$1/\log(1/\epsilon)$")
    ax.set_ylim(5e-4, 0.2)
    ax.set_xlabel(r"$\log(1/\epsilon)$")
    ax.set_ylabel("relative error of drop times")
    ax.legend(ncols=2)
    return ax


def plot_phases(generic: Phases, isotropic: Phases) -> Figure:
    """Excess loss over the rank-k optimum of the run and of the printed constrained problem."""
    figure, axes = plt.subplots(1, 2, sharey=True, figsize=(7.2, 3.0))
    for ax, phases, name in zip(axes, (isotropic, generic), ("isotropic", "generic"), strict=True):
        k = np.arange(1, phases.reached.shape[1] + 1)
        for shift, values, label, colour in (
            (-0.08, phases.confined, "printed problem", COLOURS[1]),
            (0.08, phases.reached, "gradient descent", COLOURS[0]),
        ):
            x = np.broadcast_to(k + shift, values.shape)
            ax.semilogy(
                x.ravel(),
                values.abs().clamp_min(1e-12).flatten(),
                "o",
                color=colour,
                fillstyle="none",
                label=label,
            )
        ax.set_xticks(k)
        ax.set_xlabel(f"phase k, {name} inputs")
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
