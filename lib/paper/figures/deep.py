"""Figures of the chapter on deep nets."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from learning_dynamics.runtime import Trajectory
from paper.figures.style import COLOURS
from paper.saddles.deep.schedules import DeepScaling

__all__ = ["plot_escape_times", "plot_rank_ratios", "plot_schedules"]


def plot_schedules(runs: Mapping[str, Trajectory], levels: Sequence[float], ax: Axes) -> Axes:
    """Loss against sweeps (log axis) for each schedule, rank-k levels dashed."""
    styles = ("-", "--", "-.", ":")
    for (name, run), style, colour in zip(runs.items(), styles, COLOURS, strict=False):
        ax.plot(run.steps[1:].numpy(), run["loss"][0, 1:].numpy(), style, color=colour, label=name)
    for level in levels:
        ax.axhline(level, color="black", linewidth=0.6, linestyle=":")
    ax.set(xlabel="sweep", ylabel="loss", xscale="log")
    ax.legend(loc="lower left")
    return ax


def plot_rank_ratios(results: Sequence[DeepScaling], axes: Sequence[Axes]) -> None:
    """Median over seeds of sigma_2/sigma_1 at the escape, per layer, against epsilon; slope 1."""
    for result, ax in zip(results, axes, strict=True):
        scales = np.array(result.config.scales)
        ratios = result.ratios.median(0).values.numpy()
        for layer in range(result.config.depth):
            ax.plot(
                scales,
                ratios[:, layer],
                "o-",
                color=COLOURS[layer],
                linewidth=0.9,
                label=f"$W_{layer + 1}$",
            )
        start = 0.75 * ratios[0].min()
        ax.plot(scales, start * scales / scales[0], color="black", linestyle="--", linewidth=0.8)
        ax.text(
            0.02,
            1.02,
            f"{result.config.activation}, depth {result.config.depth}",
            transform=ax.transAxes,
            fontsize=8,
        )
        ax.set(xscale="log", yscale="log", xlabel=r"$\epsilon$")
        ax.set_xticks(scales, [f"{s:.2g}" for s in scales])
        ax.minorticks_off()


def plot_escape_times(results: Sequence[DeepScaling], axes: Sequence[Axes]) -> None:
    """Sweeps to the escape against epsilon, all seeds; lines of the predicted slope.

    Left: cyclic sweeps, depth 3, 4, 5. Right: W_1 alone.
    """
    for result in results:
        config = result.config
        alone = config.schedule == "alone"
        ax = axes[1] if alone else axes[0]
        slope = -2 * (config.depth - 1) if alone else -(config.depth - 2)
        scales = np.array(config.scales)
        colour = COLOURS[config.depth - 3]
        ax.plot(scales, result.sweeps.numpy().T, "o", color=colour, markersize=2.5)
        middle = float(result.sweeps[:, -1].log().mean().exp())
        ax.plot(
            scales,
            middle * (scales / scales[-1]) ** slope,
            color=colour,
            linewidth=1,
            label=f"depth {config.depth}, slope {slope}",
        )
    for ax, name in zip(
        axes, ("sweeps to the escape", "steps of $W_1$ to half the loss"), strict=True
    ):
        ax.set(xscale="log", yscale="log", xlabel=r"$\epsilon$", ylabel=name)
        low, high = ax.get_ylim()
        ax.set_ylim(low / 8, high)
        ax.legend(loc="lower left")
    axes[1].set_xticks((0.3, 0.4, 0.5, 0.6), ("0.3", "0.4", "0.5", "0.6"))
    axes[1].minorticks_off()
