"""How closely plateaus rest on their saddles: measured against predicted."""

import numpy as np
from matplotlib.axes import Axes

from paper.figures.style import COLOURS
from paper.saddles.saddle_to_saddle.rank_k_saddles import STRONG, Rests

__all__ = ["plot_excess"]


def plot_excess(rests: Rests, ax: Axes, floor: float = 1e-12) -> Axes:
    """Measured distance from the level against its prediction, both relative to the level.

    One point per problem and plateau; values below `floor` (rounding) are drawn at it.
    """
    predicted = np.exp(rests.log_excess.numpy())
    measured = rests.excess.numpy()
    for k, marker in enumerate("os"):
        ax.loglog(
            np.maximum(predicted[:, k], floor),
            np.maximum(measured[:, k], floor),
            marker,
            color=COLOURS[k],
            label=f"plateau {k + 1}",
            alpha=0.8,
        )
    diagonal = np.array([floor, 1.0])
    ax.plot(diagonal, diagonal, color="black", linewidth=0.8, label="equal")
    ax.axhline(0.01, color="black", linewidth=0.7, linestyle=":")
    ax.axvline(STRONG, color="black", linewidth=0.7, linestyle=":")
    ax.set(
        xlabel="predicted distance from the level",
        ylabel="measured distance",
        xlim=(floor / 2, 2),
        ylim=(floor / 2, 2),
    )
    ax.legend()
    return ax
