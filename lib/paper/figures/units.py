"""Pictures of Lemma 1: where its printed form is exact."""

import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["plot_gradient_at_origin"]

_MARKERS = {"tanh": "o", "gelu": "s", "softplus": "^", "sigmoid": "D", "square": "v", "linear": "."}


def plot_gradient_at_origin(result: xr.Dataset) -> Figure:
    """Left: relative error of one step of the printed form against weight scale (median over
    seeds). Right: norm of the gradient as the weights shrink."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.2))
    for name, marker in _MARKERS.items():
        one = result.sel(activation=name)
        left.loglog(one.scale, one.printed.clip(1e-17), marker=marker, label=name)
        right.loglog(one.scale, one.gradient, marker=marker, label=name)
    left.set(ylim=(1e-17, 20), ylabel="relative error of one step")
    left.legend(ncols=2)
    right.set_ylabel("norm of the gradient")
    for ax in (left, right):
        ax.set_xlabel("standard deviation of the weights")
    return figure
