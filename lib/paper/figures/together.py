"""Pictures of Part III: the dial, Spectral's plateau, the ways past it, stages in bottlenecks."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from paper.figures.style import COLOURS, PLATEAU
from paper.together.one_axis.sweep import AxisSweep, LinearSweep
from paper.together.spectral_plateau.plateau import Plateaus, ReluPlateaus
from paper.together.spectral_plateau.time_reparametrisation import Descent
from paper.together.stages import Staged

__all__ = [
    "plot_axis_order",
    "plot_axis_plateau",
    "plot_digits_axis",
    "plot_layer_ranks",
    "plot_lengths",
    "plot_relu_plateaus",
    "plot_skip",
    "plot_skip_digits",
    "plot_staged",
]

MARKERS = ("o", "s", "^", "D")


def _dial(ax: Axes, label: str) -> None:
    """Lambda from lazy (left) to saddle-to-saddle (right), the saddle side shaded."""
    ax.set(xscale="log", xlabel=r"laziness $\Lambda$", ylabel=label)
    low, high = ax.get_xlim()
    ax.axvspan(low, 1, color=PLATEAU, linewidth=0, zorder=0)
    ax.set_xlim(high, low)


def plot_axis_order(sweeps: Mapping[str, LinearSweep], ax: Axes) -> Axes:
    """Share of the second direction when the first is half learned, against Lambda."""
    for (name, s), colour, marker in zip(sweeps.items(), COLOURS, MARKERS, strict=False):
        ax.plot(s.config.laziness, s.second.mean(1), marker, ls="-", color=colour, label=name)
        ax.fill_between(
            s.config.laziness,
            s.second.amin(1),
            s.second.amax(1),
            color=colour,
            alpha=0.2,
            linewidth=0,
        )
    ax.axhline(0.5, color="black", linewidth=0.7, linestyle="--")
    ax.set_ylim(0, 0.6)
    ax.legend(loc="lower left")
    _dial(ax, "share of direction 2")
    return ax


def plot_axis_plateau(sweeps: Mapping[str, LinearSweep], ax: Axes) -> Axes:
    """Length of the first plateau in steps, against Lambda."""
    for (name, s), colour, marker in zip(sweeps.items(), COLOURS, MARKERS, strict=False):
        ax.plot(s.config.laziness, s.plateau.mean(1), marker, ls="-", color=colour, label=name)
    ax.set_yscale("log")
    _dial(ax, "first plateau (steps)")
    return ax


def plot_digits_axis(sweep: AxisSweep, accuracy: Axes, movement: Axes) -> None:
    """Test accuracy, and how far the weights moved, against Lambda."""
    places = sweep.config.laziness
    accuracy.plot(places, 100 * sweep.accuracy, "o", color=COLOURS[0], alpha=0.6)
    accuracy.plot(places, 100 * sweep.accuracy.mean(1), color=COLOURS[0])
    _dial(accuracy, "test accuracy (%)")
    for layers, name, colour in (
        ((0, 2, 4), "into a wide layer", COLOURS[1]),
        ((1, 3), "into a bottleneck", COLOURS[2]),
    ):
        value = sweep.movement[..., list(layers)].mean((1, 2))
        movement.plot(places, value, "o-", color=colour, label=name)
    movement.legend(loc="upper left")
    _dial(movement, "relative change of weights")


def plot_lengths(found: Sequence[Plateaus], ax: Axes) -> Axes:
    """Measured (dots, every seed) and predicted (lines) plateau lengths against n/m."""
    for p, colour, marker in zip(found, COLOURS, MARKERS, strict=False):
        k = p.config.modules - 1
        ax.plot(p.config.ratios, p.measured, marker, color=colour, alpha=0.5)
        name = f"{k} bottleneck" + ("s" if k > 1 else "")
        ax.plot(p.config.ratios, p.predicted.mean(1), color=colour, label=name)
    ax.set(xscale="log", yscale="log", xlabel="$n/m$", ylabel="plateau (steps)")
    ax.legend()
    return ax


def plot_relu_plateaus(found: Mapping[str, ReluPlateaus], ax: Axes) -> Axes:
    """Loss curves of ReLU nets on digits, one line style a scheme, one colour a width."""
    for (name, runs), style in zip(found.items(), ("-", ":"), strict=False):
        for n, losses, colour in zip(runs.config.wide, runs.losses, COLOURS, strict=False):
            ax.plot(losses, style, color=colour, label=f"{name}, $n$ = {n}")
    ax.set(xlabel="step", ylabel="loss / loss of $f = 0$", ylim=(None, 1.1))
    ax.legend(fontsize=7)
    return ax


def plot_skip(ratios: Sequence[int], steps: Mapping[str, Tensor], ax: Axes) -> Axes:
    """Steps until the first direction is half learned, by method, against n/m."""
    for (name, value), colour, marker in zip(steps.items(), COLOURS, MARKERS, strict=False):
        ax.plot(ratios, value.mean(1), marker, ls="-", color=colour, label=name)
    ax.set(xscale="log", yscale="log", xlabel="$n/m$", ylabel="steps")
    ax.legend()
    return ax


def plot_skip_digits(runs: Mapping[str, Descent], ax: Axes) -> Axes:
    """Loss of one ReLU net on digits, by method."""
    for (name, run), colour in zip(runs.items(), COLOURS, strict=False):
        ax.plot(run.loss, color=colour, label=name)
    ax.set(xlabel="step", ylabel="loss / loss of $f = 0$", ylim=(0, 1.1))
    return ax


def plot_staged(runs: Sequence[Staged], axes: Sequence[Axes]) -> None:
    """Learned shares of the three leading directions, one panel a scheme, seed 0."""
    for run, ax in zip(runs, axes, strict=True):
        shares = run.learned[0]
        done = int((shares[:, 2] >= 0.7).long().argmax()) or len(shares) - 1
        last = max(6, min(int(1.15 * done), len(shares) - 1))
        for k in range(3):
            ax.plot(
                run.steps[: last + 1],
                shares[: last + 1, k],
                color=COLOURS[k],
                label=f"direction {k + 1}",
            )
        ax.axhline(0.5, color="black", linewidth=0.5, linestyle="--")
        ax.text(
            0.97,
            0.06,
            f"{run.name.upper() if run.name[0] == 'd' else 'Spectral'}\n"
            rf"$\Lambda$ = {run.laziness:.2g}",
            transform=ax.transAxes,
            ha="right",
            fontsize=8,
        )
        ax.set(xlabel="step", ylim=(-0.1, 1.25))
    axes[0].set_ylabel("share learned")
    axes[0].legend(loc="upper left")


def plot_layer_ranks(names: Sequence[str], sweep: AxisSweep, ax: Axes) -> Axes:
    """Stable rank of what each layer learned, by scheme."""
    layers = np.arange(1, sweep.stable_rank.shape[-1] + 1)
    for i, name in enumerate(names):
        label = name.upper() if name.startswith("dp") else "Spectral"
        ax.plot(
            layers, sweep.stable_rank[i].mean(0), MARKERS[i], ls="-", color=COLOURS[i], label=label
        )
    ax.set(xlabel="layer", ylabel="stable rank of the update", ylim=(0, None))
    ax.legend()
    return ax
