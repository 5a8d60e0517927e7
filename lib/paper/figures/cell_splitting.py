"""The picture of copies that part: one problem from three scales, and all problems."""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from paper.figures.style import COLOURS

__all__ = ["plot_cell_splitting"]


def plot_cell_splitting(example: xr.Dataset, result: xr.Dataset) -> Figure:
    """Left: losses in time per log(1/epsilon). Right: measured against predicted steps."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.0))
    for colour, (scale, one) in zip(COLOURS, example.loss.groupby("scale"), strict=False):
        clock = example.step / -np.log(scale)
        left.plot(clock, one.squeeze(), color=colour, label=rf"$\epsilon = {scale:.0e}$")
    for drop in (example["first"], example["second"]):
        left.axvline(float(drop), color="black", linestyle="--", linewidth=0.8)
    left.set(xlabel=r"steps / $\log(1/\epsilon)$", ylabel="$L/L(0)$")
    left.legend()
    judged = result.sel(draw=result.judged)
    for mask, marker, label in (
        (judged.parts, "o", "copies part"),
        (~judged.parts, "s", "a dormant unit"),
    ):
        own = judged.sel(draw=mask)
        right.loglog(own.predicted, own.measured, marker, fillstyle="none", label=label)
    ends = [float(judged.predicted.min()), float(judged.predicted.max())]
    right.loglog(ends, ends, color="black", linewidth=0.6)
    right.set(xlabel="predicted steps per unit", ylabel="measured steps per unit")
    right.legend()
    return figure
