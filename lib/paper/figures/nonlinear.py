"""Figures of the chapter on nonlinear activations."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from learning_dynamics.runtime import Trajectory
from paper.figures.style import COLOURS
from paper.saddles.nonlinear.diagonal_net import DiagonalRun, Jumps
from paper.saddles.nonlinear.digits import DigitRuns
from paper.saddles.nonlinear.published_runs import FIVE_POINT_LEVELS, UnitsBefore
from paper.saddles.nonlinear.real_net import LOW
from paper.saddles.nonlinear.self_made import SOWN
from paper.saddles.nonlinear.stages import Comparison

__all__ = [
    "plot_diagonal",
    "plot_digit_losses",
    "plot_digit_slopes",
    "plot_five_point",
    "plot_fractions",
    "plot_orthogonal_pair",
    "plot_real_net",
    "plot_self_made",
    "plot_three_point",
    "plot_twins",
    "plot_unit_angles",
]


def plot_unit_angles(units: UnitsBefore, ax: Axes) -> Axes:
    """Angle of the input weights of every unit against steps; extremal directions dashed."""
    t = units.steps.numpy()
    for sign, colour, name in ((1, COLOURS[0], "$b_i > 0$"), (-1, COLOURS[1], "$b_i < 0$")):
        rows = (units.signs[-1] == sign).nonzero()[:, 0].tolist()
        for k, i in enumerate(rows):
            angle = np.rad2deg(np.unwrap(np.deg2rad(units.angles[:, i].numpy())))
            angle = np.where(np.abs(np.diff(angle, prepend=angle[0])) > 90, np.nan, angle)
            angle = (angle + 180) % 360 - 180
            angle = np.where(np.abs(np.diff(angle, prepend=angle[0])) > 180, np.nan, angle)
            ax.plot(t, angle, color=colour, linewidth=0.8, label=name if k == 0 else None)
    for w in units.directions:
        angle = float(torch.rad2deg(torch.atan2(w[1], w[0])))
        ax.axhline(angle, color="black", linewidth=0.9, linestyle="--")
    ax.set(xlabel="step", ylabel="angle of $a_i$ (degrees)", ylim=(-180, 180), xlim=(0, t[-1]))
    ax.set_yticks((-180, -90, 0, 90, 180))
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_five_point(trajectory: Trajectory, ax: Axes) -> Axes:
    """Mean squared error (without 1/2) of every run, published levels dashed."""
    t = trajectory.steps.numpy()
    for error in 2 * trajectory["loss"]:
        ax.plot(t, error.numpy(), color=COLOURS[0], linewidth=0.9)
    for level in FIVE_POINT_LEVELS:
        ax.axhline(level, color="black", linewidth=0.7, linestyle="--")
    ax.set(xlabel="step", ylabel="mean squared error", xlim=(0, 0.6 * t[-1]))
    return ax


def plot_twins(comparisons: Sequence[Comparison], axes: Sequence[Axes]) -> None:
    """Loss of one nonlinear net and of its linear twin (dashed) in each of `axes`."""
    for found, ax in zip(comparisons, axes, strict=True):
        t = found.steps.numpy()
        ax.plot(t, found.loss[0].numpy(), color=COLOURS[1], label="nonlinear")
        ax.plot(
            t,
            found.twin_loss[0].numpy(),
            color="black",
            linestyle="--",
            linewidth=1,
            label="linear twin",
        )
        ax.text(
            0.97,
            0.9,
            f"{found.config.activation}, {found.config.inputs}",
            transform=ax.transAxes,
            ha="right",
            fontsize=8,
        )
        ax.set(xlabel="step", xlim=(0, t[-1]), ylim=(0, 1.25 * float(found.loss[0, 0])))
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


def plot_orthogonal_pair(run: Trajectory, scales: Sequence[float], axes: Sequence[Axes]) -> None:
    """Left: norm of every unit of the run from the least scale, by group, with its two rates.
    Right: loss of every run against eta t / log(1/epsilon); dashed: limits of both drops."""
    eta, rates = float(run.step_size), (1.25**0.5, 0.3125**0.5)
    last = int(np.argmin(scales))
    units, t = run["units"][last], run.steps.numpy()
    groups = ((1, COLOURS[0], "$b_i > 0$"), (-1, COLOURS[1], "$b_i < 0$"))
    for (sign, colour, name), rate in zip(groups, rates, strict=True):
        rows = (units[-1, :, 2].sign() == sign).nonzero()[:, 0].tolist()
        norms = units[:, rows].norm(dim=-1).numpy()
        axes[0].plot(t, norms, color=colour, linewidth=0.7)
        axes[0].plot([], [], color=colour, label=name)
        line = norms[0].max() * (1 + eta * rate) ** t
        axes[0].plot(
            t, np.where(line < 1, line, np.nan), color="black", linestyle="--", linewidth=0.9
        )
    axes[0].set(xlabel="step", ylabel="norm of a unit", yscale="log", ylim=(scales[last] / 9, 9))
    axes[0].legend(loc="upper left")
    for k, scale in enumerate(scales):
        time = eta * t / np.log(1 / scale)
        axes[1].plot(
            time,
            run["loss"][k].numpy(),
            color=COLOURS[2 + k],
            label=rf"$\epsilon = 10^{{{round(np.log10(scale))}}}$",
        )
    for rate in rates:
        axes[1].axvline(eta / np.log1p(eta * rate), color="black", linestyle="--", linewidth=0.7)
    axes[1].set(xlabel=r"time / $\log(1/\epsilon)$", ylabel="loss", xlim=(0, 2.6))
    axes[1].legend(loc="upper right")


def plot_three_point(trajectory: Trajectory, names: Sequence[str], ax: Axes) -> Axes:
    """Mean squared error (without 1/2) against steps for the first seed's scales."""
    t = trajectory.steps[1:].numpy()
    for k, name in enumerate(names):
        error = (2 * trajectory["loss"][k, 1:]).clamp_min(1e-8)
        ax.plot(t, error.numpy(), color=COLOURS[k], label=name)
    ax.axhline(0.175043, color="black", linewidth=0.7, linestyle="--")
    ax.set(xlabel="step", ylabel="mean squared error", xscale="log", ylim=(-0.02, 0.7))
    ax.legend(loc="upper right")
    return ax


def plot_diagonal(
    runs: Sequence[DiagonalRun],
    log_scales: Sequence[float],
    step_size: float,
    predicted: Jumps,
    ax: Axes,
) -> Axes:
    """Both coordinates of beta against time / log(1/alpha), jumps of the recursion dashed."""
    for run, scale, style in zip(runs, log_scales, ("-", ":"), strict=True):
        time = np.arange(run.maps.shape[1]) * step_size / scale
        for k in range(2):
            ax.plot(
                time,
                run.maps[0, :, k].numpy(),
                style,
                color=COLOURS[k],
                label=rf"$\beta_{k + 1}$, $\log(1/\alpha) = {scale:g}$",
            )
    for jump in predicted.times.tolist():
        ax.axvline(jump, color="black", linewidth=0.7, linestyle="--")
    ax.set(xlabel=r"time / $\log(1/\alpha)$", ylabel=r"$\beta$", xlim=(0, 4))
    ax.legend(loc="center right")
    return ax


def plot_digit_losses(runs: DigitRuns, ax: Axes) -> Axes:
    """Loss of each pair from the smaller scale; predicted drops as ticks on the axis."""
    scale = np.log(1 / runs.config.scales[-1])
    for k, (pair, colour) in enumerate(zip(runs.config.pairs, COLOURS, strict=False)):
        ax.plot(
            runs.steps.numpy(),
            runs.loss[k, -1].numpy(),
            color=colour,
            label=f"{pair[0]} and {pair[1]}",
        )
        shift = float(runs.drops[k, -1, 0] - scale * runs.predicted[k, 0])
        ax.axvline(
            float(scale * runs.predicted[k, 1]) + shift, color=colour, linewidth=0.8, linestyle="--"
        )
    ax.set(xlabel="step", ylabel="loss", xlim=(0, float(runs.steps[-1])), ylim=(0, None))
    ax.legend(title="digits", loc="upper right")
    return ax


def plot_digit_slopes(records: Sequence[xr.Dataset], names: Sequence[str], ax: Axes) -> Axes:
    """Measured against predicted steps per log(1/epsilon) of both drops, one point a pair."""
    top = 0.0
    for record, name, colours in zip(records, names, (COLOURS[:2], COLOURS[2:4]), strict=False):
        for k, marker in ((0, "o"), (1, "s")):
            x, y = record["predicted"].values[:, k], record["slopes"].values[:, k]
            ax.plot(x, y, marker, color=colours[k], markersize=3, label=f"{name}, drop {k + 1}")
            top = max(top, float(np.nanmax(x)))
    ax.plot((0, top), (0, top), color="black", linewidth=0.8)
    ax.set(xlabel="predicted steps per log(1/ε)", ylabel="measured steps per log(1/ε)")
    ax.legend(loc="upper left")
    return ax


def plot_self_made(result: xr.Dataset) -> Figure:
    """What one tanh unit sees less during the first drop; steps between the drops against epsilon;
    rates of ReLU units in both half-spaces. Predictions dashed, or on the diagonal.

    result : `paper.saddles.nonlinear.self_made.run()`.
    """
    figure, (course, gaps, rates) = plt.subplots(1, 3, figsize=(8.4, 2.8))
    for colour, k in zip(COLOURS, result.direction.values, strict=False):
        one = result.sel(direction=k).dropna("step")
        course.plot(one.step, one.course, color=colour, label=f"along $v_{k}$")
        course.plot(one.step, one.course_predicted, "--", color="black", linewidth=0.8)
    risen = one.course_predicted > one.course_predicted.max() / 2
    middle = float(one.step[risen.argmax("step")])
    course.set(xlabel="step", ylabel="variance lost", xlim=(middle - 40, middle + 50))
    size = -np.log10(result.scale)
    for i, (net, marker) in enumerate((("tanh", "o"), ("mirrored", "s"), ("linear", "x"))):
        one = result.sel(net=net).dropna("draw", how="all")
        style = {"color": COLOURS[i], "fillstyle": "none"}
        label = "tanh, mirrored" if net == "mirrored" else net
        for k, draw in enumerate(one.draw[:4]):
            row = one.sel(draw=draw)
            gaps.plot(size, row.steps, marker, label=None if k else label, **style)
            gaps.plot(size, row.predicted, "--", color=COLOURS[i], linewidth=0.8)
    gaps.set(xlabel=r"$\log_{10}(1/\epsilon)$", ylabel="steps between the drops", yscale="log")
    gaps.set_yticks([50, 100, 200, 400], ["50", "100", "200", "400"])
    gaps.minorticks_off()
    free = result.sown.max("half") <= SOWN
    for chosen, marker, colour in ((free, "o", COLOURS[0]), (~free, "x", "0.6")):
        x, y = (v.where(chosen).values.ravel() for v in (result.rate_predicted, result.rate))
        rates.plot(x, y, marker, color=colour, fillstyle="none")
    ends = float(result.rate_predicted.min()) - 0.02, float(result.rate_predicted.max()) + 0.02
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
    small = result["rank"].isel(scale=0)
    for colour, marker, layer in zip(COLOURS[2:], "os^", result.layer.values, strict=False):
        for i, row in enumerate(small.sel(layer=layer).stack(start=("objective", "seed")).T):
            name = str(layer) if i == 0 else None
            ranks.plot(row.change, row, marker, color=colour, fillstyle="none", label=name)
    ranks.axhline(LOW, color="black", linestyle=":", linewidth=0.8)
    ranks.set_xticks(small.change[small.notnull().any(["objective", "seed", "layer"])])
    losses.set(xlabel="step of descent", ylabel="loss", yscale="log")
    ranks.set(xlabel="step between plateaus", ylabel="participation rank", ylim=(0, None))
    losses.legend(fontsize=7)
    ranks.legend(fontsize=7)
    return figure
