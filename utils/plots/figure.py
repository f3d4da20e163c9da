"""Matplotlib figures that are written to files: one style, atomic writes, and no pyplot."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from utils.files import atomic_path


@contextlib.contextmanager
def saved_figure(path: Path, size: tuple[float, float], dpi: int) -> Iterator[Figure]:
    """Create a figure, and write it to `path` when the block ends without an error.

    Text is drawn literally, in DejaVu Sans: a "$" in a class name does not start a formula.

    Args:
        path: its suffix selects the format.
        size: (width, height) in inches.
        dpi: pixels per inch.
    """
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "text.parse_math": False}):
        # "constrained" may place the labels of axes with a fixed aspect ratio outside the figure.
        figure = Figure(figsize=size, dpi=dpi, layout="compressed")
        yield figure
        with atomic_path(path) as temporary:
            figure.savefig(temporary)
