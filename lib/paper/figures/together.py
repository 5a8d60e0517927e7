"""Pictures of Part III: the dial, Spectral's plateau, the ways past it, stages in bottlenecks."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter
from torch import Tensor

from paper.figures.style import COLOURS, PLATEAU
from paper.fits import mean_interval
from paper.together.one_axis.sweep import LinearSweep
from paper.together.spectral_plateau.plateau import Plateaus, ReluPlateaus
from paper.together.stages import Staged

__all__ = [
    "plot_axis_order",
    "plot_axis_plateau",
    "plot_layer_ranks",
    "plot_lengths",
    "plot_relu_plateaus",
    "plot_skip",
    "plot_skip_digits",
    "plot_staged",
    "plot_upper_end",
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
        least, most = s.second.amin(1), s.second.amax(1)
        ax.fill_between(s.config.laziness, least, most, color=colour, alpha=0.2, linewidth=0)
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


def plot_upper_end(own: xr.Dataset, one: xr.Dataset) -> None:
    """Plateau, train and test loss against Lambda: mean of the seeds and its 95 % interval.

    own : every place at its own best step size (lines); one : at that of Lambda = 1 (dotted).
    """
    names = {"plateau": "plateau (steps)", "train": "train loss", "test": "test loss"}
    shape = (own.task.size, len(names))
    _, axes = plt.subplots(*shape, figsize=(7.2, 4.6), squeeze=False, layout="constrained")
    places = 2.0**own.place
    for row, task in zip(axes, own.task.values, strict=True):
        for ax, (name, label) in zip(row, names.items(), strict=True):
            for net, colour, marker in zip(own.net.values, COLOURS, MARKERS, strict=False):
                at = {"task": task, "net": net}
                values = own[name].sel(at)
                if name == "plateau":
                    values = values.clip(max=own.attrs["steps"])
                ends = [mean_interval(v) for v in values.transpose("place", "seed").values]
                middle, low, high = np.array(ends).T
                ax.plot(places, middle, marker + "-", color=colour, ms=3, label=net)
                ax.fill_between(places, low, high, color=colour, alpha=0.2, linewidth=0)
                lost = one[name].sel(at).mean("seed")
                ax.plot(places, lost.where(np.isfinite), marker + ":", color=colour, ms=2)
            _dial(ax, label)
            if name != "test":
                ax.set_yscale("log", base=4 if name == "plateau" else 10)
                ax.yaxis.set_major_formatter("{x:g}")
                ax.yaxis.set_minor_formatter(NullFormatter())
            ax.set_title(task, fontsize=8)
    axes[0, 0].legend(fontsize=6)


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


def plot_skip_digits(runs: Mapping[str, Tensor], ax: Axes) -> Axes:
    """Loss of one ReLU net on digits, by method."""
    for (name, loss), colour in zip(runs.items(), COLOURS, strict=False):
        ax.plot(loss, color=colour, label=name)
    ax.set(xlabel="step", ylabel="loss / loss of $f = 0$", ylim=(0, 1.1))
    return ax


def plot_staged(runs: Sequence[Staged], axes: Sequence[Axes]) -> None:
    """Learned shares of the three leading directions, one panel a scheme, seed 0."""
    for run, ax in zip(runs, axes, strict=True):
        shares = run.learned[0]
        done = int((shares[:, 2] >= 0.7).long().argmax()) or len(shares) - 1
        last = max(6, min(int(1.15 * done), len(shares) - 1))
        for k in range(3):
            seen, label = slice(last + 1), f"direction {k + 1}"
            ax.plot(run.steps[seen], shares[seen, k], color=COLOURS[k], label=label)
        ax.axhline(0.5, color="black", linewidth=0.5, linestyle="--")
        name = run.name.upper() if run.name[0] == "d" else "Spectral"
        words = f"{name}\n$\\Lambda$ = {run.laziness:.2g}"
        ax.text(0.97, 0.06, words, transform=ax.transAxes, ha="right", fontsize=8)
        ax.set(xlabel="step", ylim=(-0.1, 1.25))
    axes[0].set_ylabel("share learned")
    axes[0].legend(loc="upper left")


def plot_layer_ranks(layers: xr.Dataset, ax: Axes) -> None:
    """Stable rank of what each layer learned, by scheme."""
    ranks, numbers = layers.stable_rank.mean("seed"), range(1, layers.sizes["layer"] + 1)
    for rank, marker, colour in zip(ranks, MARKERS, COLOURS, strict=False):
        name = str(rank.scheme.values)
        label = name.upper() if name.startswith("dp") else "Spectral"
        ax.plot(numbers, rank, marker, ls="-", color=colour, label=label)
    ax.set(xlabel="layer", ylabel="stable rank of the update", ylim=(0, None))
    ax.legend()
