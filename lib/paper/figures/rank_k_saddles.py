"""How closely plateaus rest on their saddles: measured against predicted."""

import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper.figures.style import COLOURS
from paper.saddles.saddle_to_saddle.rank_k_saddles import STRONG

__all__ = ["plot_excess", "plot_step_limit"]


def plot_excess(rests: xr.Dataset, ax: Axes) -> Axes:
    """Measured distance from the level against its prediction, both relative to the level.

    One point per problem and plateau; values below 1e-12 (rounding) are drawn there.
    """
    floor = 1e-12
    rests = rests.clip(min=floor)
    for (k, one), marker, colour in zip(rests.groupby("plateau"), "os", COLOURS, strict=False):
        style = {"color": colour, "label": f"plateau {k}", "alpha": 0.8}
        ax.loglog(one.expected.squeeze(), one.excess.squeeze(), marker, **style)
    ax.plot([floor, 1], [floor, 1], color="black", linewidth=0.8, label="equal")
    ax.axhline(0.01, color="black", linewidth=0.7, linestyle=":")
    ax.axvline(STRONG, color="black", linewidth=0.7, linestyle=":")
    ax.set(xlabel="predicted distance from the level", ylabel="measured distance")
    ax.set(xlim=(floor / 2, 2), ylim=(floor / 2, 2))
    ax.legend()
    return ax


def plot_step_limit(result: xr.Dataset) -> Figure:
    """Imbalance of the layers at the end, and how many runs diverged, against the step size."""
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.8))
    axes[0].semilogy(result.share, result.imbalance.T, color=COLOURS[0], linewidth=0.6)
    axes[0].set_ylabel("imbalance at the end")
    axes[1].plot(result.share, 100 * result.diverged.mean("problem"), "o-", color=COLOURS[1])
    axes[1].set_ylabel("runs that diverge, %")
    for ax in axes:
        ax.axvline(1, color="black", linestyle="--", linewidth=0.8)
        ax.set_xlabel(r"$\eta\, a / 2$")
    return figure
