"""The still of the live figure."""

import numpy as np
from matplotlib.axes import Axes

from paper.figures.style import COLOURS
from paper.live import Live

__all__ = ["plot_live"]


def plot_live(live: Live, ax: Axes) -> Axes:
    """Loss against step with the predicted staircase, on a square-root axis."""
    steps = live.trajectory.steps.numpy()
    ax.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0)), np.square))
    drops = live.staircase.drop_steps(live.config.init_scale)[:2].tolist()
    levels = live.staircase.levels[:3].tolist()
    edges = [0, *(min(d, steps[-1]) for d in drops), steps[-1]]
    ax.stairs(levels, edges, baseline=None, color=COLOURS[1], linestyle="--", label="predicted")
    ax.plot(steps, live.trajectory["loss"][0].numpy(), color=COLOURS[0], label="loss")
    ax.set(xlabel="step", ylabel="loss", xlim=(0, steps[-1]), ylim=(0, 1.1 * levels[0]))
    ax.legend()
    return ax
