"""Pictures of what small initialisation changes."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from paper.figures.style import COLOURS
from paper.saddles.setup import Outcome

__all__ = ["plot_small_and_large"]


def plot_small_and_large(
    regression: Mapping[float, Outcome], completion: Mapping[float, Outcome]
) -> Figure:
    """Training loss (left) and test error (right) against steps, one colour per initial scale.

    The mappings go from initial scale to outcome. Thick lines: seed 0; thin ones: all other
    seeds; dots: where validation stops seed 0 of the regression.
    """
    figure, axes = plt.subplots(2, 2, figsize=(6.8, 4.6))
    tasks = (("regression", regression), ("completion", completion))
    for row, (task, outcomes) in zip(axes, tasks, strict=True):
        for colour, (scale, outcome) in zip(COLOURS, outcomes.items(), strict=False):
            steps = outcome.steps.numpy()
            for ax, values in zip(row, (outcome.loss, outcome.test_error), strict=True):
                ax.plot(steps, values[1:].T.numpy(), color=colour, alpha=0.15, linewidth=0.6)
                label = rf"$\epsilon = ${scale:g}"
                ax.plot(steps, values[0].numpy(), color=colour, label=label)
            if task == "regression":
                at = int(outcome.chosen[0])
                row[1].plot(steps[at], float(outcome.test_error[0, at]), "o", color=colour)
        row[0].set_ylabel(f"{task}: training loss")
        row[1].set_ylabel("test error")
        for ax in row:
            ax.set_yscale("log")
            ax.set_xlabel("step")
            ax.set_xlim(0, 1000)
    axes[0, 0].set_ylim(0.4, 20)
    axes[0, 1].set_ylim(0.02, 2)
    axes[1, 0].set_ylim(1e-7, 10)
    axes[0, 0].legend()
    return figure
