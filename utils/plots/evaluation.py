"""Pictures of an evaluation: precision over recall, F1 over the score threshold, the confusion matrix.

Each is a PNG that can be read with two classes and with eighty: few classes get colours and a legend, many are thin
grey lines behind their mean, and the matrix grows with its classes.
"""

import math
import warnings
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from utils.files import atomic_path
from utils.plots.fonts import class_labels, find_font

DPI = 150
LEGEND_CLASSES = 10  # more colours than these cannot be told apart
NAME_LENGTH = 24  # characters of a class name that are shown
COUNTED_CLASSES = 100  # up to here the cells of the matrix are large enough for numbers
TICKS = 160  # more names than these would overlap on an axis of the matrix


def save_plots(folder, coco, matrix):
    """All three pictures.

    Args:
        folder: where they go; made if it is missing.
        coco: CocoMetrics.
        matrix: [C + 1, C + 1], from `utils.evaluation.confusion.confusion_matrix`.
    Returns:
        list of the paths written.
    """
    paths = [Path(folder) / name for name in ("precision_recall.png", "f1.png", "confusion_matrix.png")]
    names = [row.name for row in coco.classes]
    tags = class_labels([name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 1] + "…" for name in names])
    save_precision_recall(paths[0], coco, tags)
    save_f1(paths[1], coco, tags)
    save_confusion_matrix(paths[2], matrix, tags)
    return paths


def save_precision_recall(path, coco, tags):
    """Precision over recall at IoU 0.5, a thin line a class and a thick one for their mean.

    Args:
        path: PNG to write.
        coco: CocoMetrics.
        tags: a `utils.plots.fonts.ClassLabel` a class.
    """
    title = "Precision over recall at IoU 0.5" + _known(", mean AP50 {:.3f}", coco.overall.ap50)
    figure, axes = _curve_figure(title, "recall", "precision")
    _draw_curves(axes, coco, coco.curves.recall, coco.curves.precision, [row.ap50 for row in coco.classes], tags)
    _save(figure, path)


def save_f1(path, coco, tags):
    """F1 of the detections above a score, at IoU 0.5, a thin line a class and a thick one for their mean.

    Args:
        path: PNG to write.
        coco: CocoMetrics.
        tags: a `utils.plots.fonts.ClassLabel` a class.
    """
    best, threshold = coco.overall.f1, coco.overall.threshold
    title = "F1 over the score threshold at IoU 0.5" + _known(", best mean {:.3f} at {:.3f}", best, threshold)
    figure, axes = _curve_figure(title, "score threshold", "F1")
    _draw_curves(axes, coco, coco.curves.thresholds, coco.curves.f1, [row.f1 for row in coco.classes], tags)
    if not math.isnan(threshold):
        axes.plot([threshold, threshold], [0, best], color="black", linestyle=":", linewidth=1)
        axes.plot(threshold, best, "o", color="black", markersize=4)
    _save(figure, path)


def save_confusion_matrix(path, matrix, tags):
    """Which class is detected as which; a cell's colour is its share of the row, its number the count.

    Args:
        path: PNG to write.
        matrix: [C + 1, C + 1] counts; the last row and column stand for the background.
        tags: C `utils.plots.fonts.ClassLabel`.
    """
    size = len(matrix)
    side = min(5 + 0.18 * size, 30)
    figure = Figure(figsize=(side + 1, side), dpi=DPI, layout="constrained")
    axes = figure.add_subplot(xlabel="detected as", ylabel="labelled as")
    figure.suptitle("Confusion matrix: false detections in the last row, missed objects in the last column", fontsize=9)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, label="share of the row", shrink=0.6, aspect=30, fraction=0.04, pad=0.02)
    for line in (axes.axhline, axes.axvline):
        line(size - 1.5, color="grey", linewidth=0.5)  # sets the background apart
    _name_ticks(axes, tags)
    if size <= COUNTED_CLASSES:
        _write_counts(axes, matrix, shares)
    _save(figure, path)


def _name_ticks(axes, tags):
    labels = [*(tag.text for tag in tags), "background"]
    shown = range(0, len(labels), math.ceil(len(labels) / TICKS))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(shown, [labels[place] for place in shown], fontsize=10 if len(labels) <= 12 else 8)
        for text, place in zip(axis.get_ticklabels(), shown, strict=True):
            if place < len(tags):
                _set_font(text, tags[place].font)
    narrow = len(labels) > 4 or max(map(len, labels)) > len("background")
    axes.tick_params("x", rotation=90 if narrow else 0)


def _write_counts(axes, matrix, shares):
    small = len(matrix) > 12
    for row, column in zip(*np.nonzero(matrix), strict=True):
        count = matrix[row, column]
        text = f"{count / 1000:.0f}k" if small and count >= 1000 else str(count)  # three digits fill a small cell
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, text, color=colour, fontsize=6 if small else 10, ha="center", va="center")


def _curve_figure(title, xlabel, ylabel):
    figure = Figure(figsize=(8, 5), dpi=DPI, layout="constrained")
    axes = figure.add_subplot(xlim=(0, 1), ylim=(0, 1.01), xlabel=xlabel, ylabel=ylabel)
    axes.set_title(title, fontsize=11)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    return figure, axes


def _draw_curves(axes, coco, x, curves, values, tags):
    """A line a class with labels and their mean; with few classes a legend of names and values."""
    shown = [place for place, row in enumerate(coco.classes) if row.labels]
    if not shown:
        axes.text(0.5, 0.5, "no labels", ha="center", va="center", color="0.5")
        return
    few = len(shown) <= LEGEND_CLASSES
    lines = []
    for number, place in enumerate(shown):
        style = {"color": colormaps["tab10"](number), "linewidth": 1.2} if few else {"color": "0.6", "linewidth": 0.5}
        lines += axes.plot(x, curves[place], **style)
    if len(shown) > 1:
        lines += axes.plot(x, curves[shown].mean(0), color="black" if few else "tab:blue", linewidth=2.5)
    if not few:
        lines = lines[-2:]
    # The texts are set afterwards because a legend leaves out labels that begin with an underscore.
    legend = axes.legend(lines, map(str, range(len(lines))), loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=9)
    texts = legend.get_texts()
    texts[-1].set_text("mean of the classes")
    if not few:
        texts[0].set_text(f"each of {len(shown)} classes")
        return
    for place, text in zip(shown, texts, strict=False):
        label = f"{tags[place].text}  {values[place]:.3f}"
        font = find_font(label)  # a font that has the name, an ideograph, may have no digits
        text.set_text(label if font else tags[place].text)
        _set_font(text, font or tags[place].font)


def _known(template, *values):
    """The template filled in, or nothing when a value is not defined."""
    return "" if any(map(math.isnan, values)) else template.format(*values)


def _set_font(text, font):
    text.set_parse_math(False)  # or "$" would begin a formula
    text.set_fontproperties(FontProperties(fname=font, size=text.get_fontsize()))


def _save(figure, path):
    with atomic_path(path) as temporary, warnings.catch_warnings():
        # Every line's height is that of "lp", which a font of ideographs alone does not have.
        warnings.filterwarnings("ignore", r"Glyph 1(08|12) \([lp]\) missing")
        figure.savefig(temporary)
