"""A picture of box sizes and the anchors among them."""

from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter

from utils.anchors import MATCH_RATIO


def draw_anchors(axes, sizes, anchors, earlier=None):
    """Draw box sizes as a density, anchors as dots, and around each the sizes that the loss trains it on.

    Both axes are logarithmic, so a factor is a distance: what an anchor matches is a square of one size
    everywhere, and a box outside all squares is matched by none.

    Args:
        axes: matplotlib axes to draw on.
        sizes: [n, 2], box widths and heights in pixels.
        anchors: [k, 2].
        earlier: [m, 2], other anchors to compare with, or None.
    """
    density = axes.hexbin(*sizes.T, xscale="log", yscale="log", bins="log", gridsize=60, mincnt=1, cmap="Blues")
    axes.figure.colorbar(density, ax=axes, label="boxes")
    for width, height in anchors:
        corner = (width / MATCH_RATIO, height / MATCH_RATIO)
        sides = (width * MATCH_RATIO - corner[0], height * MATCH_RATIO - corner[1])
        axes.add_patch(Rectangle(corner, *sides, fill=False, edgecolor="tab:red", linewidth=0.8, alpha=0.6))
    axes.plot(*anchors.T, "o", color="tab:red", label=f"anchors, squares: within a factor of {MATCH_RATIO:g}")
    if earlier is not None:
        axes.plot(*earlier.T, "x", color="black", label="anchors before")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("width (pixels)")
    axes.set_ylabel("height (pixels)")
    axes.set_aspect("equal")
    axes.legend(loc="upper left", fontsize="small")


def save_anchor_plot(path, sizes, anchors, title, earlier=None):
    """Draw as `draw_anchors` does into a file whose suffix says its format."""
    from matplotlib.figure import Figure

    from utils.files import atomic_path

    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.add_subplot()
    draw_anchors(axes, sizes, anchors, earlier)
    axes.set_title(title)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
