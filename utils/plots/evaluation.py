"""Plots of an evaluation: precision over recall, F1 over the score threshold, the confusion matrix.

All plots are readable with two classes and with eighty. Up to LEGEND_CLASSES classes get colors and a legend; more
classes are thin gray lines, and their mean a thick one. The confusion matrix grows with the number of classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes

from utils.plots.figure import saved_figure
from utils.plots.fonts import ClassLabel
from utils.text import shorten

if TYPE_CHECKING:
    from utils.evaluation.coco import CocoMetrics

DPI = 150
LEGEND_CLASSES = 10  # matplotlib's "tab10" has this many distinct colors
NAME_LENGTH = 24  # characters of a class name that are shown
COUNTED_CLASSES = 100  # with more classes, the cells of the confusion matrix are too small for numbers
MAX_TICKS = 160  # more names would overlap on an axis of the confusion matrix


def save_plots(folder: Path, coco: CocoMetrics, matrix: np.ndarray, labels: Sequence[ClassLabel]) -> list[Path]:
    """Write precision_recall.png, f1.png and confusion_matrix.png.

    Args:
        folder: created if it is missing.
        matrix: [C + 1, C + 1] counts, from `utils.evaluation.confusion.confusion_matrix`.
        labels: one per class, in the default font.
    """
    paths = [Path(folder) / name for name in ("precision_recall.png", "f1.png", "confusion_matrix.png")]
    names = [shorten(label.text, NAME_LENGTH) for label in labels]
    save_precision_recall(paths[0], coco, names)
    save_f1(paths[1], coco, names)
    save_confusion_matrix(paths[2], matrix, names)
    return paths


def save_precision_recall(path: Path, coco: CocoMetrics, names: Sequence[str]) -> None:
    """Plot precision over recall at IoU 0.5, one line per class and their mean."""
    with saved_figure(path, size=(8, 5), dpi=DPI) as figure:
        axes = figure.add_subplot(xlabel="recall", ylabel="precision")
        ap50 = coco.overall.ap50
        title = "Precision over recall at IoU 0.5" + ("" if math.isnan(ap50) else f", mean AP50 {ap50:.3f}")
        axes.set_title(title, fontsize=11)
        values = [row.ap50 for row in coco.classes]
        _draw_curves(axes, coco, coco.curves.recall, coco.curves.precision, values, names)


def save_f1(path: Path, coco: CocoMetrics, names: Sequence[str]) -> None:
    """Plot F1 at IoU 0.5 over the score threshold, one line per class and their mean."""
    with saved_figure(path, size=(8, 5), dpi=DPI) as figure:
        axes = figure.add_subplot(xlabel="score threshold", ylabel="F1")
        best, threshold = coco.overall.f1, coco.overall.threshold
        known = not math.isnan(threshold)
        title = "F1 over the score threshold at IoU 0.5"
        axes.set_title(title + (f", best mean {best:.3f} at {threshold:.3f}" if known else ""), fontsize=11)
        values = [row.f1 for row in coco.classes]
        _draw_curves(axes, coco, coco.curves.thresholds, coco.curves.f1, values, names)
        if known:
            axes.plot([threshold, threshold], [0, best], color="black", linestyle=":", linewidth=1)
            axes.plot(threshold, best, "o", color="black", markersize=4)


def save_confusion_matrix(path: Path, matrix: np.ndarray, names: Sequence[str]) -> None:
    """Plot the confusion matrix: the color of a cell is its share of the row, the number is the count.

    Args:
        matrix: [C + 1, C + 1] counts; the last row and column stand for the background.
    """
    size = len(matrix)
    side = min(5 + 0.18 * size, 30)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    with saved_figure(path, size=(side + 1, side), dpi=DPI) as figure:
        axes = figure.add_subplot(xlabel="detected as", ylabel="labeled as")
        title = "Confusion matrix: false positives in the last row, missed objects in the last column"
        figure.suptitle(title, fontsize=9)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        figure.colorbar(image, label="share of the row", shrink=0.6, aspect=30, fraction=0.04, pad=0.02)
        for draw_line in (axes.axhline, axes.axvline):
            draw_line(size - 1.5, color="gray", linewidth=0.5)  # separates the background from the classes
        _set_ticks(axes, [*names, "background"])
        if size <= COUNTED_CLASSES:
            _write_counts(axes, matrix, shares)


def _set_ticks(axes: Axes, names: Sequence[str]) -> None:
    shown = range(0, len(names), math.ceil(len(names) / MAX_TICKS))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(shown, [names[index] for index in shown], fontsize=10 if len(names) <= 12 else 8)
    narrow = len(names) > 4 or max(map(len, names)) > len("background")
    axes.tick_params("x", rotation=90 if narrow else 0)


def _write_counts(axes: Axes, matrix: np.ndarray, shares: np.ndarray) -> None:
    small = len(matrix) > 12
    for row, column in zip(*np.nonzero(matrix), strict=True):
        count = matrix[row, column]
        text = f"{count / 1000:.0f}k" if small and count >= 1000 else str(count)  # a small cell has room for 3 digits
        color = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, text, color=color, fontsize=6 if small else 10, ha="center", va="center")


def _draw_curves(
    axes: Axes, coco: CocoMetrics, x: np.ndarray, curves: np.ndarray, values: Sequence[float], names: Sequence[str]
) -> None:
    """Draw `curves` [C, n] over `x` [n]: one line per class that has labels, their mean, and a legend with `values`."""
    axes.set(xlim=(0, 1), ylim=(0, 1.01))
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    shown = [class_id for class_id, row in enumerate(coco.classes) if row.labels]
    if not shown:
        axes.text(0.5, 0.5, "no labels", ha="center", va="center", color="0.5")
        return
    few = len(shown) <= LEGEND_CLASSES
    colors = colormaps["tab10"].colors if few else ["0.6"] * len(shown)
    lines = []
    for class_id, color in zip(shown, colors, strict=False):
        lines += axes.plot(x, curves[class_id], color=color, linewidth=1.2 if few else 0.5)
    texts = [f"{names[class_id]}  {values[class_id]:.3f}" for class_id in shown]
    if not few:
        lines, texts = lines[-1:], [f"each of {len(shown)} classes"]
    if len(shown) > 1:
        lines += axes.plot(x, curves[shown].mean(0), color="black" if few else "tab:blue", linewidth=2.5)
        texts.append("mean of the classes")
    # matplotlib leaves out legend entries that start with an underscore, so the texts are set afterwards.
    legend = axes.legend(lines, ["-"] * len(lines), loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=9)
    for entry, text in zip(legend.get_texts(), texts, strict=True):
        entry.set_text(text)
