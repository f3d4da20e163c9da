"""Plots of a data set: boxes per class, box sizes, box centers, and example images with their labels."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from utils.config import Config
from utils.dataset.images import read_image
from utils.dataset.index import DatasetIndex
from utils.dataset.statistics import DatasetStatistics
from utils.errors import InputError
from utils.plots.anchors import save_anchor_plot
from utils.plots.draw import draw_labels
from utils.plots.figure import saved_figure
from utils.plots.fonts import ClassLabel, class_labels
from utils.plots.mosaic import COLUMNS, Tile, fit_to_side, save_mosaic
from utils.text import counted

HEATMAP_CELLS = 22  # per side: the grid of stride 16 at 352 pixels
EXAMPLES = 16
EXAMPLE_SIDE = 576  # pixels of the longer side of an example image
DPI = 110


def save_plots(sets: Mapping[str, DatasetStatistics], config: Config, folder: Path, seed: int = 0) -> list[Path]:
    """Write classes.png, mosaic.png and, if there are boxes, box_sizes.png and box_centers.png.

    Args:
        sets: statistics of each set, by the name of the set; box sizes and examples are those of the first one.
        seed: selects the example images.
    """
    name, first = next(iter(sets.items()))
    labels = class_labels(config.class_names)
    written = [folder / "classes.png"]
    save_class_counts(written[-1], {key: facts.class_boxes for key, facts in sets.items()}, labels)
    if len(first.sizes):
        written.append(folder / "box_sizes.png")
        title = f"{name}: {counted(len(first.sizes), 'box', 'boxes')} at {config.width}×{config.height}"
        save_anchor_plot(written[-1], first.sizes, np.array(config.anchors).reshape(-1, 2), title)
        written.append(folder / "box_centers.png")
        save_box_centers(written[-1], {key: facts.index.labels for key, facts in sets.items()})
    written.append(folder / "mosaic.png")
    save_examples(written[-1], first.index, labels, seed)
    return [path for path in written if path.exists()]


def save_class_counts(path: Path, counts: Mapping[str, np.ndarray], labels: Sequence[ClassLabel]) -> None:
    """Plot the number of boxes per class, one bar per set; `counts` has one array [C] per set.

    The axis is logarithmic because the counts of classes often differ by orders of magnitude.
    """
    height = 0.8 / len(counts)
    with saved_figure(path, size=(9, 1.5 + 0.26 * max(len(labels), 4)), dpi=DPI) as figure:
        axes = figure.add_subplot(xlabel="boxes")
        rows = np.arange(len(labels))
        for index, (name, boxes) in enumerate(counts.items()):
            bars = axes.barh(rows + (index - (len(counts) - 1) / 2) * height, boxes, height, label=name)
            axes.bar_label(bars, fontsize=7, padding=2)
        axes.set_yticks(rows, [label.text for label in labels])
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(0, 3 * max(1, *(boxes.max() for boxes in counts.values())))  # leaves room for the numbers
        axes.xaxis.set_major_formatter("{x:g}")
        figure.legend(loc="outside upper right", ncols=len(counts))


def save_box_centers(path: Path, labels: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Plot how many box centers lie in each part of the image, one heat map per set; `labels` are [n, 5] per image."""
    with saved_figure(path, size=(5.2 * len(labels), 4.6), dpi=DPI) as figure:
        all_axes = np.atleast_1d(figure.subplots(1, len(labels)))
        for axes, (name, rows) in zip(all_axes, labels.items(), strict=True):
            centers = np.concatenate([np.empty((0, 5), np.float32), *rows])[:, 1:3]
            counts = np.histogram2d(centers[:, 1], centers[:, 0], HEATMAP_CELLS, ((0, 1), (0, 1)))[0]
            image = axes.imshow(counts, cmap="viridis", extent=(0, 1, 1, 0), interpolation="nearest")
            figure.colorbar(image, ax=axes, label="box centers", shrink=0.85)
            axes.set(
                title=f"{name}: {counted(len(centers), 'box', 'boxes')}",
                xlabel="x / image width",
                ylabel="y / image height",
            )


def save_examples(path: Path, index: DatasetIndex, labels: Sequence[ClassLabel], seed: int = 0) -> None:
    """Draw up to EXAMPLES images with their labels, selected at random; images without labels come last."""
    order = np.random.default_rng(seed).permutation(len(index)).tolist()
    tiles = []
    for image_index in sorted(order, key=lambda image_index: len(index.labels[image_index]) == 0):
        path_of_image = index.images[image_index]
        try:
            image = fit_to_side(read_image(path_of_image), EXAMPLE_SIDE)
        except InputError:
            continue
        tiles.append(Tile(draw_labels(image, index.labels[image_index], labels), os.path.basename(path_of_image)))
        if len(tiles) == EXAMPLES:
            break
    if tiles:  # at least one image can be read
        save_mosaic(path, tiles, COLUMNS, EXAMPLE_SIDE)
