"""The picture of the bottleneck: energies against the law, and the share between classes."""

import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.figure import Figure

from paper.figures.style import COLOURS

__all__ = ["plot_compression"]

NAMES = {"dp(0)": "DP(0)", "dp(1/4)": "DP(1/4)", "dp(1/2)": "DP(1/2)", "spectral": "Spectral"}


def plot_compression(result: xr.Dataset) -> Figure:
    """Left: growth against its law at the largest m. Others: share at the slowest pace."""
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.8))
    widest = result.isel(m=-1)
    for colour, (r, one) in zip(COLOURS, widest.groupby("r"), strict=False):
        law, seen = one.growth_law.values.ravel(), one.growth.values.ravel()
        axes[0].loglog(law, seen, ".", markersize=2, color=colour, label=f"r = {r:g}")
    ends = [0.8, 1.2 * float(widest.growth_law.max())]
    axes[0].plot(ends, ends, color="black", linewidth=0.8)
    axes[0].set(xlabel="law", ylabel="growth of energy")
    axes[0].legend(markerscale=3)
    for ax, activation in zip(axes[1:], result.activation.values, strict=True):
        for colour, (name, label) in zip(COLOURS, NAMES.items(), strict=False):
            own = result.sel(activation=activation, scheme=name).isel(pace=-1)
            ax.plot(result.step, own.share.T, color=colour, linewidth=0.8)
            ax.plot([], [], color=colour, label=label)
            ax.plot(result.step, own.law.mean("seed"), ":", color="black", linewidth=1.0)
        ax.set(xlabel="steps of the best rate", ylim=(0.2, 0.8))
        ax.set_title({"relu": "ReLU"}.get(activation, activation), fontsize=9)
    axes[1].set_ylabel("share between classes")
    axes[2].legend(loc="upper left", ncols=2)
    return figure
