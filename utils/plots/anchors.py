"""A plot of box sizes and anchors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter

from utils.anchors import MATCH_RATIO
from utils.plots.figure import saved_figure


def save_anchor_plot(
    path: Path, sizes: np.ndarray, anchors: np.ndarray, title: str, previous: np.ndarray | None = None
) -> None:
    """Draw the density of box sizes, the anchors as dots, and a square around each anchor.

    The square holds the box sizes that the loss assigns to the anchor. Both axes are logarithmic, so all squares
    have the same size. A box size outside all squares is assigned to no anchor.

    Args:
        sizes: [n, 2] widths and heights of boxes in pixels.
        anchors: [k, 2] widths and heights in pixels.
        previous: [m, 2] anchors to compare with.
    """
    with saved_figure(path, size=(7, 6), dpi=120) as figure:
        axes = figure.add_subplot(xlabel="width (pixels)", ylabel="height (pixels)", title=title)
        density = axes.hexbin(*sizes.T, xscale="log", yscale="log", bins="log", gridsize=60, mincnt=1, cmap="Blues")
        ticks = LogLocator(subs=(1, 2, 5))
        colorbar = figure.colorbar(density, ax=axes, label="boxes", ticks=ticks, format="{x:g}")
        colorbar.minorticks_off()
        for anchor in anchors:
            corner, sides = anchor / MATCH_RATIO, anchor * (MATCH_RATIO - 1 / MATCH_RATIO)
            axes.add_patch(Rectangle(corner, *sides, fill=False, edgecolor="tab:red", linewidth=0.8, alpha=0.6))
        axes.plot(*anchors.T, "o", color="tab:red", label=f"anchors; squares: within a factor of {MATCH_RATIO:g}")
        if previous is not None:
            axes.plot(*previous.T, "x", color="black", label="previous anchors")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
        axes.set_aspect("equal")
        axes.legend(loc="upper left", fontsize="small")
