"""Pictures of the simulations of Part II: results in, Axes out."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from paper.figures.style import COLOURS

__all__ = [
    "best_against_width",
    "fluctuation_law",
    "heat_maps",
    "loss_curves",
    "loss_lines",
    "plateaus",
    "ratios",
    "representations",
]

LABELS = {
    "standard": "standard",
    "mup-fan-in": "muP (fan-in)",
    "mup-package": "muP (package)",
    "spectral": "Spectral",
    "ntk": "DP(0) = NTK",
    "dp(1/8)": "DP(1/8)",
    "dp(1/4)": "DP(1/4)",
    "dp(1/3)": "DP(1/3)",
    "dp(3/8)": "DP(3/8)",
    "dp(1/2)": "DP(1/2)",
}
COLOUR = {
    "dp(1/2)": COLOURS[0],
    "spectral": COLOURS[1],
    "dp(1/4)": COLOURS[5],
    "ntk": COLOURS[2],
    "mup-fan-in": COLOURS[3],
    "mup-package": COLOURS[4],
    "standard": COLOURS[6],
    "dp(1/8)": COLOURS[4],
    "dp(3/8)": COLOURS[3],
}
LINES = {
    "spectral": "--",
    "ntk": ":",
    "standard": (0, (1, 1)),
    "mup-fan-in": "-.",
    "mup-package": (0, (4, 1, 1, 1)),
    "dp(1/4)": (0, (6, 1)),
}
MARKERS = {
    "dp(1/2)": "o",
    "spectral": "s",
    "dp(1/4)": "v",
    "ntk": "^",
    "mup-fan-in": "D",
    "mup-package": "P",
    "standard": "X",
}


def _band(ax: Axes, x: np.ndarray, values: np.ndarray, **style: Any) -> None:
    """Mean over the first axis and the range of all seeds."""
    mean = np.where(np.isfinite(values).all(0), values.mean(0), np.nan)
    (line,) = ax.plot(x, mean, **style)
    ax.fill_between(x, values.min(0), values.max(0), color=line.get_color(), alpha=0.18, lw=0)


def loss_curves(curves: xr.Dataset, kind: str) -> np.ndarray:
    """Train and test loss of every pair against epochs: mean over seeds and their range."""
    pairs = curves.pair.values
    _, axes = plt.subplots(
        2, len(pairs), figsize=(7.2, 4.2), sharex=True, sharey="row", squeeze=False
    )
    for row, name in zip(axes, ("train_loss", "test_loss"), strict=True):
        for ax, pair in zip(row, pairs, strict=True):
            for scheme in curves.scheme.values:
                own = curves[name].sel(kind=kind, pair=pair, scheme=scheme)
                _band(
                    ax,
                    curves.epoch.values[1:],
                    own.transpose("seed", "epoch").values[:, 1:],
                    color=COLOUR[scheme],
                    ls=LINES.get(scheme, "-"),
                    label=LABELS[scheme],
                )
            ax.set(xscale="log", yscale="log")
        row[0].set_ylabel(name.replace("_", " "))
    for ax, pair in zip(axes[0], pairs, strict=True):
        ax.axhline(0.01, color="0.6", lw=0.8)
        ax.annotate(pair, (0.06, 0.06), xycoords="axes fraction")
    for ax in axes[1]:
        ax.set_xlabel("epoch of 31 steps")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    axes[0, 0].figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return axes


def ratios(
    found: Mapping[str, Mapping[str, Sequence[float]]], pairs: Sequence[str], margin: float
) -> np.ndarray:
    """DP(1/2) over Spectral on every pair: epochs to 0.01 and test loss, with 95 % intervals.

    found : row's name -> the entries "epochs" and "test" of a claim, with those of their ends, as
    logarithms. margin : log of what counts as equal (grey).
    """
    _, axes = plt.subplots(1, 2, figsize=(6.4, 0.5 + 0.32 * len(found) * len(pairs)), sharey=True)
    rows = [(kind, k) for kind in found for k in range(len(pairs))]
    y = np.arange(len(rows))[::-1]
    titles = {"epochs": "epochs to train loss 0.01", "test": "test loss at the end"}
    for ax, (name, label) in zip(axes, titles.items(), strict=True):
        for place, (kind, k) in zip(y, rows, strict=True):
            low, mean, high = (np.exp(found[kind][name + e][k]) for e in ("_low", "", "_high"))
            colour = COLOURS[list(found).index(kind)]
            ax.plot([low, high], [place, place], color=colour)
            ax.plot(mean, place, MARKERS["dp(1/2)"], color=colour)
        if name == "test":
            ax.axvspan(np.exp(-margin), np.exp(margin), color="0.5", alpha=0.2, lw=0)
        ax.axvline(1, color="black", lw=0.8)
        ax.set(xscale="log", xlabel=f"{label},\nDP(1/2) over Spectral")
        ticks = [
            v for v in (0.25, 0.5, 0.8, 1, 1.25, 2, 4) if ax.get_xlim()[0] <= v <= ax.get_xlim()[1]
        ]
        ax.set_xticks(ticks, [f"{v:g}" for v in ticks])
        ax.set_xticks([], minor=True)
    axes[0].set_yticks(y, [f"{pairs[k]}, {kind}" for kind, k in rows])
    return axes


def loss_lines(
    result: xr.Dataset, schemes: Sequence[str], *, width: int, loss: str = "train_loss"
) -> Axes:
    """Loss after the last step against step size at one width: mean and range over seeds."""
    _, ax = plt.subplots(figsize=(6.4, 2.8))
    for scheme in schemes:
        own = result[loss].sel(scheme=scheme, width=width).transpose("seed", "octave")
        own = own.dropna("octave", how="all")
        _band(
            ax,
            2.0**own.octave.values,
            own.values,
            color=COLOUR[scheme],
            ls=LINES.get(scheme, "-"),
            marker=MARKERS.get(scheme, "."),
            label=LABELS[scheme],
        )
    ax.set_xscale("log", base=2)
    ax.set(yscale="log", xlabel="step size", ylabel=loss.replace("_", " "))
    ax.legend(ncols=2)
    return ax


def heat_maps(
    result: xr.Dataset, schemes: Sequence[str], best: Mapping[str, Sequence[float]]
) -> np.ndarray:
    """Mean train loss over step size (across) and width (up), one panel a scheme.

    best : scheme -> log2 of its best step size at each width (crosses). Grey: a run diverged.
    """
    columns = 4 if len(schemes) > 3 else len(schemes)
    rows = -(-len(schemes) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(6.4, 1.75 * rows + 0.3), sharey=True, squeeze=False
    )
    means = result.train_loss.mean("seed", skipna=False)
    finite = means.values[np.isfinite(means.values)]
    norm = LogNorm(finite.min(), min(finite.max(), 0.5))
    colours = plt.get_cmap("viridis").with_extremes(bad="0.75")
    widths = result.width.values
    for ax, scheme in zip(axes.flat, schemes, strict=False):
        own = means.sel(scheme=scheme).transpose("width", "octave").dropna("octave", how="all")
        shown = np.ma.masked_invalid(own.values)
        picture = ax.pcolormesh(
            own.octave.values,
            np.arange(len(widths)),
            shown,
            norm=norm,
            cmap=colours,
            shading="nearest",
            rasterized=False,
        )
        ax.plot(best[scheme], np.arange(len(widths)), "x-", color="white", lw=0.8, ms=5, mew=1.6)
        ax.set_yticks(np.arange(len(widths)), [str(w) for w in widths])
        ax.set_xlabel(f"$\\log_2$ step size\n{LABELS[scheme]}")
        ax.tick_params(length=2)
    for ax in axes.flat[len(schemes) :]:
        ax.set_visible(False)
    for row in axes:
        row[0].set_ylabel("width n")
    figure.colorbar(picture, ax=axes, label="train loss", shrink=0.8, pad=0.01)
    return axes


def best_against_width(widths: Sequence[int], shifts: Mapping[str, Mapping[str, object]]) -> Axes:
    """Best step size against width, relative to that at the smallest width, one line a scheme.

    shifts : scheme -> what `shift_per_doubling` returned.
    """
    _, ax = plt.subplots(figsize=(6.4, 3.0))
    for scheme, found in shifts.items():
        best = np.asarray(found["best"])
        label = (
            f"{LABELS[scheme]}: {found['shift']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}]"
        )
        ax.plot(
            widths,
            2.0 ** (best - best[0]),
            marker=MARKERS.get(scheme, "."),
            color=COLOUR[scheme],
            ls=LINES.get(scheme, "-"),
            label=label,
        )
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    low, high = ax.get_ylim()
    ax.set_ylim(min(low, 2**-1.1), max(high, 2**1.1))  # two octaves at least: small is seen small
    ax.set_xticks(list(widths), [str(w) for w in widths])
    ax.set(xlabel="width n", ylabel="best step size, relative")
    ax.legend(title="octaves per doubling of n", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def plateaus(lengths: xr.Dataset, *, exponent: float = 0.4) -> np.ndarray:
    """Loss curves of one seed at each width, and length of the plateau against width."""
    _, (left, right) = plt.subplots(1, 2, figsize=(6.4, 2.8))
    widths = lengths.width.values
    for k, n in enumerate(widths):
        colour = plt.get_cmap("viridis")(0.85 * k / max(1, len(widths) - 1))
        left.plot(
            lengths.at_step.sel(width=n),
            lengths.loss.sel(width=n).isel(seed=0),
            color=colour,
            label=str(n),
        )
        right.plot(
            np.full(lengths.sizes["seed"], n),
            lengths.length.sel(width=n),
            "o",
            color=colour,
            alpha=0.7,
        )
    left.axhline(0.375, color="0.6", lw=0.8)
    left.set(xlabel="step", ylabel="train loss")
    left.legend(title="width n")
    mean = np.exp(np.log(lengths.length).mean("seed"))
    line = np.exp(np.log(mean).mean().item()) * (widths / np.exp(np.log(widths).mean())) ** exponent
    right.plot(widths, line, color="black", label=f"slope {exponent:g}")
    right.set_xscale("log", base=2)
    right.set_yscale("log", base=2)
    right.set_xticks(widths, [str(n) for n in widths], rotation=45)
    right.set(xlabel="width n", ylabel="length of the plateau (steps)")
    right.legend()
    return np.array([left, right])


def fluctuation_law(found: xr.Dataset) -> Axes:
    """Measured spread of the contributions against the predicted one, with 95 % intervals."""
    _, ax = plt.subplots(figsize=(4.6, 3.2))
    blocks = found.sizes["block"]
    kinds = (
        (
            "one layer (mean of six)",
            found.exact,
            found.layer_spread.mean("layer"),
            found.layer_without.mean("layer"),
            "o",
        ),
        ("sum of all layers", found.kernel, found.total_spread, found.total_without, "s"),
    )
    top = 0.0
    for k, (label, x, y, without, marker) in enumerate(kinds):
        error = 1.96 * np.sqrt((blocks - 1) * without.var("block"))
        ax.errorbar(x, y, error, fmt=marker, color=COLOURS[k], label=label, lw=1)
        top = max(top, float(x.max()))
    ax.plot([0, 1.05 * top], [0, 1.05 * top], color="black", lw=0.8)
    ax.set(xlabel="predicted spread", ylabel="measured spread")
    ax.legend()
    return ax


def representations(found: xr.Dataset, *, layer: int = 4) -> np.ndarray:
    """Effective rank and probe accuracy of a bottleneck, and its alignment with the targets, at
    equal train loss: mean over seeds and their range."""
    _, axes = plt.subplots(1, 3, figsize=(6.4, 2.9))
    kinds = (
        ("effective rank", found["rank"].sel(layer=layer)),
        ("probe accuracy", found.probe.sel(layer=layer)),
        ("alignment with targets", found.alignment.sel(between="layer 4 and targets")),
    )
    levels = ["start", *(f"{level:g}" for level in found.level.values[1:])]
    x = np.arange(len(levels))
    for ax, (label, values) in zip(axes, kinds, strict=True):
        for k, scheme in enumerate(found.digits_scheme.values):
            own = values.sel(digits_scheme=scheme).transpose("seed", "level")
            mean = own.mean("seed").values
            reach = np.abs(np.stack([own.min("seed"), own.max("seed")]) - mean)
            ax.errorbar(
                x + 0.08 * k,
                mean,
                reach,
                color=COLOUR[scheme],
                ls=LINES.get(scheme, "-"),
                marker=MARKERS.get(scheme, "."),
                label=LABELS[scheme],
            )
        ax.set_xticks(x + 0.12, levels)
        ax.set(xlabel="train loss", ylabel=label)
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].figure.legend(handles, labels, loc="outside upper center", ncols=4)
    return axes
