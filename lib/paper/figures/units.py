"""Pictures of Lemma 1: where its printed form is exact."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper.saddles.unit_wise_update import UnitErrors

__all__ = ["plot_gradient_at_origin", "plot_printed_error"]

_MARKERS = {"tanh": "o", "gelu": "s", "softplus": "^", "sigmoid": "D", "square": "v", "linear": "."}


def plot_printed_error(result: UnitErrors, ax: Axes | None = None) -> Axes:
    """Relative error of one step of the printed form against weight scale (median over seeds)."""
    ax = ax or plt.subplots()[1]
    for name, marker in _MARKERS.items():
        error = result.printed[name][0].median(-1).values.clamp_min(1e-17)
        ax.loglog(result.scales, error, marker=marker, label=name)
    ax.set_ylim(1e-17, 20)
    ax.set_xlabel("standard deviation of the weights")
    ax.set_ylabel("relative error of one step")
    ax.legend(ncols=2)
    return ax


def plot_gradient_at_origin(result: UnitErrors) -> Figure:
    """Left: error of the printed form. Right: norm of the gradient as the weights shrink."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.2))
    plot_printed_error(result, left)
    for name, marker in _MARKERS.items():
        right.loglog(result.scales, result.gradient_norm[name], marker=marker, label=name)
    right.set_xlabel("standard deviation of the weights")
    right.set_ylabel("norm of the gradient")
    return figure
