"""Figures of Part II: exponents, contributions, layer profiles, the ends of r."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from learning_dynamics.scales.exponent_check import Check
from paper.figures.style import COLOURS
from paper.scales.coordinate_check.exponents import Richness
from paper.scales.order_analysis import Balance

__all__ = [
    "balance",
    "contributions",
    "edges",
    "ends_of_r",
    "exponents",
    "gains",
    "layer_profile",
    "planted",
    "published_slopes",
    "sold_as",
    "valleys",
]

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))


def line(k: int) -> dict[str, Any]:
    """The look of the k-th line of a panel."""
    return {"marker": MARKERS[k], "ls": STYLES[k], "color": COLOURS[k]}


def exponents(result: Check, quantities: Mapping[str, str], schemes: Sequence[str]) -> None:
    """Measured slopes with intervals (markers) on predicted exponents (bars), one panel a quantity.

    quantities : name -> axis label.
    """
    rows = -(-len(quantities) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(6.4, 2.2 * rows), squeeze=False, sharex=True)
    for ax, (name, label) in zip(axes.flat, quantities.items(), strict=False):
        for k, s in enumerate(schemes):
            lines = result.select(scheme=s, quantity=name)
            shift = 0.11 * (k - (len(schemes) - 1) / 2)
            x = np.array([line.layer for line in lines]) + shift
            colour = COLOURS[k % len(COLOURS)]
            level = [float(v.predicted) for v in lines]
            ax.hlines(level, x - 0.09, x + 0.09, color=colour, lw=3, alpha=0.35)
            slope, reach = [v.slope for v in lines], [v.interval for v in lines]
            look = {"fmt": MARKERS[k], "color": colour, "ms": 3, "lw": 0.8, "label": s}
            ax.errorbar(x, slope, reach, **look)
        ax.set_ylabel(label)
    for ax in axes[-1]:
        ax.set_xlabel("layer")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(schemes)))


def contributions(result: xr.Dataset, settings: Sequence[str]) -> None:
    """Contribution of every layer against n (mean, spread), with the closed form dashed."""
    figure, axes = plt.subplots(1, len(settings), figsize=(6.4, 2.9), sharey=False, squeeze=False)
    sizes = result["size"].values
    for ax, name in zip(axes[0], settings, strict=True):
        own = result.sel(setting=name)
        for k, layer in enumerate(result.layer.values):
            colour = plt.get_cmap("viridis")(k / 6)
            mean, spread = (own[v].sel(layer=layer).values for v in ("level", "level_spread"))
            low, high = np.maximum(mean - spread, mean / 4), mean + spread
            ax.fill_between(sizes, low, high, color=colour, alpha=0.12, lw=0)
            ax.plot(sizes, mean, marker=MARKERS[k], ms=3, color=colour, label=f"layer {layer}")
            ax.plot(sizes, own.law.sel(layer=layer), "--", lw=0.8, color=colour)
        ax.set(xscale="log", yscale="log", xlabel="wide width n")
        ax.annotate(name, (0.03, 0.03), xycoords="axes fraction", fontsize=8)
    axes[0, 0].set_ylabel("loss removed by layers 1..l")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=6)


def published_slopes(
    result: xr.Dataset, published: Mapping[str, Sequence[float]], theory: Mapping[str, float]
) -> np.ndarray:
    """Slopes of contributions less the theory's, per layer: expected ones, for a real and for an
    infinitesimal step, and the thesis's with 95 % of its chance; one panel a setting."""
    _, axes = plt.subplots(1, len(published), figsize=(7.2, 2.5), sharey=True)
    for ax, (name, numbers) in zip(axes, published.items(), strict=True):
        own, zero, x = result.sel(setting=name), theory[name], result.layer.values
        ax.plot(x, own.limit - zero, color=COLOURS[0], lw=3, alpha=0.25)
        ax.plot(x - 0.1, own.slope - zero, MARKERS[0], color=COLOURS[0])
        reach, cross = 1.96 * own.chance, np.array(numbers) - zero
        ax.errorbar(x + 0.1, cross, reach, marker="x", ls="", color="black", lw=1, ms=5)
        ax.set(xlabel="layer\n" + name.replace(", ", ",\n"), xticks=x)
    axes[0].set_ylabel("slope less theory")
    return axes


def layer_profile(ax: Axes, profile: Mapping[str, Sequence[float]], label: str) -> Axes:
    """One positive quantity per layer, one line per scheme, logarithmic."""
    for k, (name, values) in enumerate(profile.items()):
        ax.plot(range(1, len(values) + 1), values, label=name, **line(k))
    ax.set(yscale="log", xlabel="layer", ylabel=label)
    return ax


def balance(results: Mapping[str, Balance]) -> Axes:
    """Measured over predicted E|df/dW_l|^2 with 4 standard errors."""
    ax = plt.gca()
    for k, (name, b) in enumerate(results.items()):
        x = np.arange(1, len(b.measured) + 1) + 0.12 * (k - 2)
        ratio = np.array(b.measured) / np.array(b.predicted)
        reach = 4 * np.array(b.error) / np.array(b.predicted)
        ax.errorbar(x, ratio, reach, fmt=MARKERS[k], color=COLOURS[k], lw=1, label=name)
    ax.axhline(1, color="black", lw=0.8)
    ax.set(xlabel="layer", ylabel="measured / predicted")
    ax.legend(ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax


def ends_of_r(result: Richness) -> None:
    """Initial output, backward ratio and peak loss against n, one line per r."""
    figure, axes = plt.subplots(1, 3, figsize=(6.4, 2.7))
    tables = (
        (result.output, "|f(x)| at the start"),
        (result.ratio, "update / weights, backward"),
        (result.peak.clamp(max=10), "peak loss / first loss"),
    )
    for ax, (table, label) in zip(axes, tables, strict=True):
        for k, r in enumerate(result.richness):
            middle = table[k].median(-1).values.numpy()
            ax.plot(result.sizes, middle, label=f"r = {r}", **line(k))
        ax.set(xscale="log", yscale="log", xlabel="width n", ylabel=label)
        ax.set_xticks([64, 256, 1024], ["64", "256", "1024"])
        ax.minorticks_off()
    axes[2].set_yscale("linear")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5)


def edges(
    panels: Mapping[str, xr.DataArray], laws: Mapping[str, Mapping[int | str, Sequence[float]]]
) -> None:
    """log2 of the largest stable 1/D against a width: a panel a label, a line a first coordinate.

    panels : label of the width -> (line, width, seed); bars are the range over seeds. laws : the
    same label -> line -> its prediction at every width (dashed).
    """
    _, axes = plt.subplots(1, len(panels), figsize=(6.4, 3.0), sharey=True, squeeze=False)
    for ax, (label, edge) in zip(axes[0], panels.items(), strict=True):
        name, width = str(edge.dims[0]), edge[str(edge.dims[1])].values
        for k, line in enumerate(edge[name].values.tolist()):
            own = edge.sel({name: line}).values
            mean = own.mean(1)
            bars = (mean - own.min(1), own.max(1) - mean)
            text = f"K = {line}" if isinstance(line, int) else str(line)
            look = {"color": COLOURS[k], "marker": MARKERS[k], "ls": "-", "lw": 0.9}
            ax.errorbar(width, mean, bars, label=text, **look)
            if line in laws.get(label, {}):
                ax.plot(width, laws[label][line], ls="--", lw=1.2, color=COLOURS[k])
        ax.set_xscale("log", base=2)
        ax.set(xlabel=label)
        ax.legend(loc="best")
    axes[0, 0].set_ylabel("largest stable 1/D, log2")


def sold_as(gap: xr.DataArray, lines: xr.DataArray) -> None:
    """Schemes (rows) sold as others (columns), a panel a pattern: filled, colour by lines that
    differ, where told apart; open where not although `gap` is not 0; none where it is 0."""
    names, patterns = gap.scheme.values, gap.pattern.values
    _, axes = plt.subplots(2, -(-len(patterns) // 2), figsize=(6.4, 4.9), sharex=True, sharey=True)
    for ax, pattern in zip(axes.flat, patterns, strict=True):
        own, count = gap.sel(pattern=pattern).values, lines.sel(pattern=pattern).values
        y, x = np.nonzero((count > 0) & (own > 0))
        ax.scatter(x, y, 26, c=np.log(count[y, x]), cmap="viridis", vmin=0, vmax=4.5, marker="s")
        y, x = np.nonzero((count == 0) & (own > 0))
        ax.scatter(x, y, 30, facecolors="none", edgecolors=COLOURS[1], marker="o")
        ax.set_xticks(range(len(names)), names, rotation=90)
        ax.set_yticks(range(len(names)), names)
        ax.set_xlabel(str(pattern))
    axes[0, 0].invert_yaxis()


def valleys(
    losses: Mapping[str, Mapping[int, np.ndarray]], rates: Mapping[str, np.ndarray]
) -> None:
    """Loss after a fixed number of steps against learning rate, a panel a case, a line a width.

    Values that are not finite (diverged runs) are left out.
    """
    columns = len(losses) if len(losses) < 5 else 3
    shape = (len(losses) // columns, columns)
    _, axes = plt.subplots(*shape, figsize=(6.4, 2.8 * shape[0]), sharey=True, squeeze=False)
    for ax, (name, table) in zip(axes.flat, losses.items(), strict=True):
        for k, (n, values) in enumerate(table.items()):
            ax.plot(rates[name], values, label=f"n = {n}", **line(k))
        ax.set(xscale="log", yscale="log", xlabel="learning rate")
        ax.annotate(name, (0.03, 0.03), xycoords="axes fraction")
    for ax in axes[:, 0]:
        ax.set_ylabel("loss")
    axes[0, 0].legend(loc="upper left")


def planted(caught: xr.DataArray) -> Axes:
    """Faults by networks, a mark an optimizer: filled if caught, open if missed, else none."""
    _, ax = plt.subplots(figsize=(6.4, 5.2))
    shifts = 0.22 * (np.arange(caught.optimizer.size) - (caught.optimizer.size - 1) / 2)
    for j, (optimizer, shift) in enumerate(zip(caught.optimizer.values, shifts, strict=True)):
        table = caught.sel(optimizer=optimizer).transpose("fault", "network").values
        for hit, face in ((1, COLOURS[j]), (0, "none")):
            y, x = np.nonzero(table == hit)
            look: dict[str, Any] = {
                "marker": MARKERS[j],
                "edgecolors": COLOURS[j],
                "facecolors": face,
            }
            ax.scatter(x + shift, y, 22, label=optimizer if hit else None, **look)
    ax.set_xticks(range(caught.network.size), caught.network.values)
    ax.set_yticks(range(caught.fault.size), caught.fault.values)
    ax.invert_yaxis()
    ax.grid(axis="x", visible=False)
    ax.legend(ncols=caught.optimizer.size, loc="lower center", bbox_to_anchor=(0.4, 1.0))
    return ax


def gains(result: xr.Dataset) -> None:
    """RMS by layer of every net with either rule, and steps against rate by kind of biases."""
    _, axes = plt.subplots(1, 1 + result.task.size, figsize=(7.2, 2.4), layout="constrained")
    for rule, colour in zip(result["gains"].values, (COLOURS[0], COLOURS[3]), strict=True):
        lines = axes[0].plot(result.layer, result.rms.sel(gains=rule).T, color=colour, alpha=0.5)
        lines[0].set_label(rule)
    axes[0].set(xlabel="layer", ylabel="RMS")
    axes[0].set_yscale("log", base=2)
    axes[0].legend()
    middle = result.steps.mean("seed")
    for ax, task in zip(axes[1:], result.task.values, strict=True):
        for kind, colour, marker in zip(result.biases.values, COLOURS, MARKERS, strict=False):
            values = middle.sel(task=task, biases=kind).where(np.isfinite)
            ax.plot(result.rate, values, marker + "-", color=colour, ms=3, label=kind)
        ax.set_title(task, fontsize=9)
        ax.set(xlabel=r"$\log_2$ rate", ylim=(0, result.attrs["most"]))
    axes[1].set_ylabel("steps")
    axes[-1].legend(title="biases", fontsize=6)
