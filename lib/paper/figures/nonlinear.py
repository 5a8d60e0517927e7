"""Figures of the chapters on nonlinear activations."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from learning_dynamics.runtime import Trajectory
from paper.figures.style import COLOURS
from paper.saddles.nonlinear.diagonal_net import Jumps
from paper.saddles.nonlinear.published_runs import PAIR_SCALES, PAIR_STEP
from paper.saddles.nonlinear.real_net import LOW
from paper.saddles.nonlinear.self_made import SOWN

__all__ = [
    "plot_diagonal",
    "plot_digits",
    "plot_errors",
    "plot_fractions",
    "plot_orthogonal_pair",
    "plot_real_net",
    "plot_self_made",
    "plot_twins",
    "plot_unit_angles",
]

SIGNS = ((1, COLOURS[0], "$b_i > 0$"), (-1, COLOURS[1], "$b_i < 0$"))


def plot_unit_angles(found: xr.Dataset, ax: Axes) -> Axes:
    """Angle of the input weights of every unit against steps; extremal directions dashed."""
    angles = np.degrees(np.arctan2(found.units[..., 1], found.units[..., 0]))
    for sign, colour, name in SIGNS:
        rows = np.flatnonzero(np.sign(found.units[-1, :, 2]) == sign)
        # A line is broken where it leaves the picture or hops.
        hops = abs(angles[:, rows].diff("step", label="upper")) > 90
        lines = ax.plot(found.step[1:], angles[1:, rows].where(~hops), color=colour, linewidth=0.8)
        lines[0].set_label(name)
    for a1, a2, _ in found.direction.values:
        ax.axhline(np.degrees(np.arctan2(a2, a1)), color="black", linewidth=0.9, linestyle="--")
    ax.set(xlabel="step", ylabel="angle of $a_i$ (degrees)", ylim=(-180, 180))
    ax.set(xlim=(0, found.step[-1]), yticks=(-180, -90, 0, 90, 180))
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_errors(run: Trajectory, levels: Sequence[float], ax: Axes, names: Sequence[str]) -> Axes:
    """Mean squared error (without 1/2) of the runs against steps, `levels` dashed; runs without a
    name of their own look alike."""
    for k, error in enumerate(2 * run["loss"]):
        label, colour = (names[k], COLOURS[k]) if names else (None, COLOURS[0])
        ax.plot(run.steps[1:], error[1:], color=colour, linewidth=1, label=label)
    for level in levels:
        ax.axhline(level, color="black", linewidth=0.7, linestyle="--")
    ax.set(xlabel="step", ylabel="mean squared error")
    if names:
        ax.set(xscale="log")
        ax.legend()
    return ax


def plot_twins(comparisons: Sequence[xr.Dataset], axes: Sequence[Axes]) -> None:
    """Loss of one nonlinear net and of its linear twin (dashed) in each of `axes`."""
    for found, ax in zip(comparisons, axes, strict=True):
        one = found.isel(problem=0)
        ax.plot(one.step, one.loss, color=COLOURS[1], label="nonlinear")
        ax.plot(one.step, one.twin_loss, "k--", linewidth=1, label="linear twin")
        name = str(found.case.values).replace("/", ", ")
        ax.text(0.97, 0.9, name, transform=ax.transAxes, ha="right", fontsize=8)
        ax.set(xlabel="step", xlim=(0, one.step[-1]), ylim=(0, 1.25 * one.loss[0]))
    axes[0].set_ylabel("loss")
    axes[0].legend(loc="upper right", bbox_to_anchor=(1, 0.88))


def plot_fractions(record: xr.Dataset, ax: Axes) -> Axes:
    """Share of problems that match the twin, for every case (rows) and statement (colours)."""
    share = record["matches"].mean("problem")
    cases = [c.replace("/", ", ").replace("_", " ") for c in record["case"].values]
    y = np.arange(len(cases))[::-1]
    for k, (name, marker) in enumerate(zip(record["statement"].values, "osD", strict=True)):
        ax.plot(share[:, k], y + 0.18 * (1 - k), marker, color=COLOURS[k], label=str(name))
    ax.set_yticks(y, cases)
    ax.set(xlabel="share of problems within 10 % of the linear twin", xlim=(-0.05, 1.05))
    ax.grid(axis="y", linewidth=0.3)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_orthogonal_pair(run: Trajectory, axes: Sequence[Axes]) -> None:
    """Left: norm of every unit of the run from the least scale, by group, with its two rates.
    Right: loss of every run against eta t / log(1/epsilon); dashed: limits of both drops."""
    rates, last = (1.25**0.5, 0.3125**0.5), len(PAIR_SCALES) - 1
    units, t = run["units"][last], run.steps.numpy()
    for (sign, colour, name), rate in zip(SIGNS, rates, strict=True):
        norms = units[:, units[-1, :, 2].sign() == sign].norm(dim=-1).numpy()
        axes[0].plot(t, norms, color=colour, linewidth=0.7)[0].set_label(name)
        line = norms[0].max() * (1 + PAIR_STEP * rate) ** t
        axes[0].plot(t[line < 1], line[line < 1], "k--", linewidth=0.9)
        limit = PAIR_STEP / np.log1p(PAIR_STEP * rate)
        axes[1].axvline(limit, color="black", linewidth=0.7, linestyle="--")
    for k, scale in enumerate(PAIR_SCALES):
        name = rf"$\epsilon = 10^{{{round(np.log10(scale))}}}$"
        time = PAIR_STEP * t / np.log(1 / scale)
        axes[1].plot(time, run["loss"][k], color=COLOURS[2 + k], label=name)
    axes[0].set(xlabel="step", ylabel="norm of a unit", yscale="log")
    axes[0].set(ylim=(PAIR_SCALES[last] / 9, 9))
    axes[0].legend(loc="upper left")
    axes[1].set(xlabel=r"time / $\log(1/\epsilon)$", ylabel="loss", xlim=(0, 2.6))
    axes[1].legend(loc="upper right")


def plot_diagonal(
    maps: Sequence[torch.Tensor],
    log_scales: Sequence[float],
    step_size: float,
    predicted: Jumps,
    ax: Axes,
) -> Axes:
    """Both coordinates of beta (1, steps, 2) of runs from `log_scales` against time /
    log(1/alpha), jumps of the recursion dashed."""
    for beta, scale, style in zip(maps, log_scales, ("-", ":"), strict=True):
        time = np.arange(beta.shape[1]) * step_size / scale
        for k in range(2):
            label = rf"$\beta_{k + 1}$, $\log(1/\alpha) = {scale:g}$"
            ax.plot(time, beta[0, :, k], style, color=COLOURS[k], label=label)
    for jump in predicted.times.tolist():
        ax.axvline(jump, color="black", linewidth=0.7, linestyle="--")
    ax.set(xlabel=r"time / $\log(1/\alpha)$", ylabel=r"$\beta$", xlim=(0, 4))
    ax.legend(loc="center right")
    return ax


def plot_digits(runs: xr.Dataset, records: Sequence[xr.Dataset], names: Sequence[str]) -> Figure:
    """Left: loss of each pair from the smaller scale, predicted second drop dashed. Right: measured
    against predicted steps per log(1/epsilon) of both drops, all pairs of the records."""
    figure, (losses, slopes) = plt.subplots(1, 2, figsize=(7.2, 3.2))
    last = runs.isel(scale=-1)
    for colour, pair in zip(COLOURS, last.pair.values, strict=False):
        one = last.sel(pair=pair)
        losses.plot(one.step, one.loss, color=colour, label=str(pair).replace("-", " and "))
        between = -np.log(one.scale) * (one.predicted[1] - one.predicted[0])
        losses.axvline(one.drops[0] + between, color=colour, linewidth=0.8, linestyle="--")
    losses.set(xlabel="step", ylabel="loss", xlim=(0, last.step[-1]), ylim=(0, None))
    losses.legend(title="digits", loc="upper right")
    for i, (record, name) in enumerate(zip(records, names, strict=True)):
        for k, marker in ((0, "o"), (1, "s")):
            (points,) = slopes.plot(record.predicted[:, k], record.slopes[:, k], marker)
            points.set(color=COLOURS[2 * i + k], markersize=3, label=f"{name}, drop {k + 1}")
    slopes.axline((0, 0), slope=1, color="black", linewidth=0.8)
    slopes.set(xlabel="predicted steps per log(1/ε)", ylabel="measured steps per log(1/ε)")
    slopes.legend(loc="upper left")
    return figure


def plot_self_made(smooth: xr.Dataset, halves: xr.Dataset) -> Figure:
    """What one tanh unit sees less during the first drop; steps between the drops against epsilon;
    rates of ReLU units in both half-spaces. Predictions dashed, or on the diagonal.

    smooth, halves : of `paper.saddles.nonlinear.self_made`.
    """
    figure, (course, gaps, rates) = plt.subplots(1, 3, figsize=(8.4, 2.8))
    one = smooth.sel(net="tanh").dropna("step", subset=["course"])
    for colour, k in zip(COLOURS, (1, 2), strict=False):
        here = one.sel(direction=k)
        course.plot(one.step, here.course, color=colour, label=f"along $v_{k}$")
        course.plot(one.step, here.course_predicted, "--", color="black", linewidth=0.8)
    risen = here.course_predicted > here.course_predicted.max() / 2
    middle = float(one.step[risen.argmax("step")])
    course.set(xlabel="step", ylabel="variance lost", xlim=(middle - 40, middle + 50))
    size, names = -np.log10(smooth.scale), ("tanh", "mirrored", "linear")
    for net, colour, marker in zip(names, COLOURS, "osx", strict=False):
        few = smooth.sel(net=net).dropna("draw", subset=["steps"]).isel(draw=slice(4))
        lines = gaps.plot(size, few.steps.T, marker, color=colour, fillstyle="none")
        lines[0].set_label("tanh, mirrored" if net == "mirrored" else net)
        gaps.plot(size, few.predicted.T, "--", color=colour, linewidth=0.8)
    gaps.set(xlabel=r"$\log_{10}(1/\epsilon)$", ylabel="steps between the drops", yscale="log")
    gaps.set_yticks([50, 100, 200, 400], ["50", "100", "200", "400"])
    gaps.minorticks_off()
    free = halves.sown.max("half") <= SOWN
    for chosen, marker, colour in ((free, "o", COLOURS[0]), (~free, "x", "0.6")):
        x, y = (v.where(chosen).values.ravel() for v in (halves.rate_predicted, halves.rate))
        rates.plot(x, y, marker, color=colour, fillstyle="none")
    ends = float(halves.rate_predicted.min()) - 0.02, float(halves.rate_predicted.max()) + 0.02
    rates.plot(ends, ends, color="black", linewidth=0.6)
    rates.set(xlabel="predicted rate, over $s_2/2$", ylabel="measured", xlim=ends, ylim=ends)
    course.legend()
    gaps.legend(fontsize=7)
    return figure


def plot_real_net(result: xr.Dataset) -> Figure:
    """Losses of the first seed with their plateaus; ranks of the steps of all small starts.

    result : `paper.saddles.nonlinear.real_net.run()`.
    """
    figure, (losses, ranks) = plt.subplots(1, 2, figsize=(7.2, 2.9))
    for colour, objective in zip(COLOURS, result.objective.values, strict=False):
        for style, scale in zip(("-", ":"), result.scale.values, strict=True):
            one = result.sel(objective=objective, scale=scale).isel(seed=0)
            at = one.ends.dropna("change")
            label = f"{objective}, {scale:g}"
            losses.plot(one.step, one.loss, style, color=colour, linewidth=1, label=label)
            losses.plot(at, one.loss.sel(step=at), "o", color=colour, markersize=3)
    small = result["rank"].isel(scale=0).stack(start=("objective", "seed"))
    for colour, marker, layer in zip(COLOURS[2:], "os^", result.layer.values, strict=False):
        values = small.sel(layer=layer)
        lines = ranks.plot(small.change, values, marker, color=colour, fillstyle="none")
        lines[0].set_label(str(layer))
    ranks.axhline(LOW, color="black", linestyle=":", linewidth=0.8)
    ranks.set_xticks(small.change[small.notnull().any(["start", "layer"])])
    losses.set(xlabel="step of descent", ylabel="loss", yscale="log")
    ranks.set(xlabel="step between plateaus", ylabel="participation rank", ylim=(0, None))
    losses.legend(fontsize=7)
    ranks.legend(fontsize=7)
    return figure
