"""One look for all figures: vector, colour-blind safe, the same bytes on every rebuild."""

import os

import matplotlib as mpl
from cycler import cycler
from matplotlib_inline.backend_inline import set_matplotlib_formats

__all__ = ["COLOURS", "DROP", "PLATEAU", "use_book_style"]

#: Okabe & Ito's palette (colour-blind safe), ordered by contrast on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

#: Shading of the two phases, as in Arata's thesis: plateaus pink, drops light blue.
PLATEAU, DROP = "#F6D5E3", "#CFE8F7"


def use_book_style() -> None:
    """Set the book's matplotlib style: SVG for the site, PDF for print, no title, fixed salt."""
    os.environ.setdefault("SOURCE_DATE_EPOCH", "0")  # no creation date in the files
    set_matplotlib_formats("svg", "pdf")
    mpl.rcParams.update(
        {
            "svg.hashsalt": "learning_dynamics",
            "pdf.fonttype": 42,
            "figure.figsize": (6.4, 3.4),
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "axes.prop_cycle": cycler(color=COLOURS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": False,
            "font.size": 9,
            "axes.labelsize": 9,
            "legend.frameon": False,
            "legend.fontsize": 8,
            "lines.linewidth": 1.6,
            "lines.markersize": 4,
        }
    )
