"""Plots and images of a training run: losses and metrics, the first batches, predictions next to labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from utils.boxes import frame_to_image
from utils.dataset.images import read_image
from utils.errors import InputError
from utils.plots.draw import draw_detections, draw_labels
from utils.plots.figure import saved_figure
from utils.plots.fonts import ClassLabel
from utils.plots.mosaic import Tile, fit_to_side, save_mosaic

if TYPE_CHECKING:
    from utils.dataset.dataset import DetectionDataset
    from utils.dataset.index import DatasetIndex
    from utils.dataset.sampler import TrainBatches

BATCHES = 3
BATCH_IMAGES = 16  # images per batch that are drawn
COMPARED_IMAGES = 12  # val images with predictions next to labels
CONF = 0.3  # predictions with a higher score are drawn
TILE_SIDE = 416  # pixels of the longer side of an image
COLUMNS = 4
MARKED_EPOCHS = 40  # with more epochs, the curves of results.png have no markers

# Columns of results.csv, and their titles in results.png.
CURVES = {
    "total": "total loss",
    "box": "box loss",
    "objectness": "objectness loss",
    "classes": "class loss",
    "learning_rate": "learning rate",
}
METRICS = {"AP50": "AP50", "AP": "AP", "original_AP": "AP, original definition", "F1": "F1, original definition"}


def draw_results(folder: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write results.png: losses, learning rate and metrics over the epochs.

    `history` has the rows of results.csv, one per epoch; epochs without an evaluation have no metrics.
    """
    with saved_figure(folder / "results.png", size=(12, 7), dpi=100) as figure:
        all_axes = figure.subplots(2, 3).flat
        marker = "." if len(history) < MARKED_EPOCHS else None
        for axes, (name, title) in zip(all_axes, CURVES.items(), strict=False):
            axes.plot([row["epoch"] for row in history], [row[name] for row in history], marker=marker)
            axes.set_title(title)
        evaluated = [row for row in history if "AP50" in row]
        axes = figure.axes[-1]
        for name, label in METRICS.items():
            axes.plot([row["epoch"] for row in evaluated], [row[name] for row in evaluated], marker=".", label=label)
        axes.set_title("metrics on val")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8, framealpha=0.5)
        for axes in figure.axes:
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(alpha=0.3)


def save_first_batches(
    folder: Path, dataset: DetectionDataset, batches: TrainBatches, labels: Sequence[ClassLabel]
) -> None:
    """Write train_batch_1.jpg, train_batch_2.jpg, …: the augmented images of the first batches with their boxes."""
    dataset.set_epoch(0)
    for step in range(min(BATCHES, batches.steps)):
        tiles = []
        for image_index in batches.batch_indices(0, step)[:BATCH_IMAGES].tolist():
            pixels, rows = dataset[image_index]
            image = fit_to_side(pixels.permute(1, 2, 0).numpy(), TILE_SIDE)
            tiles.append(Tile(draw_labels(image, rows.numpy(), labels)))
        columns = min(COLUMNS, math.ceil(math.sqrt(len(tiles))))
        save_mosaic(folder / f"train_batch_{step + 1}.jpg", tiles, columns, TILE_SIDE)


def save_predictions(
    path: Path,
    index: DatasetIndex,
    detections: Sequence[np.ndarray],
    frame_size: tuple[int, int],
    labels: Sequence[ClassLabel],
    image_indices: Sequence[int] | None = None,
) -> None:
    """Draw val images twice, next to each other: with their labels, and with the predictions above CONF.

    Args:
        path: JPEG to write; nothing is written if no image can be read.
        index: the val list.
        detections: one [n, 6] array per image, (x1, y1, x2, y2, score, class id) in input pixels.
        frame_size: (width, height) of the network's input in pixels.
        labels: one per class.
        image_indices: of the images to draw; by default images with labels, spread evenly over the list.
    """
    tiles = []
    for image_index in _spread(index) if image_indices is None else image_indices:
        try:
            image = fit_to_side(read_image(index.images[image_index]), TILE_SIDE)
        except InputError:
            continue
        rows = np.asarray(detections[image_index], np.float64).reshape(-1, 6)
        rows = rows[rows[:, 4] > CONF]
        rows[:, :4] = frame_to_image(rows[:, :4], frame_size, image.shape[1::-1])
        tiles.append(Tile(draw_labels(image, index.labels[image_index], labels), "labels"))
        tiles.append(Tile(draw_detections(image, rows, labels), f"predictions above {CONF:g}"))
    if tiles:
        save_mosaic(path, tiles, COLUMNS, TILE_SIDE)


def save_worst(
    path: Path,
    index: DatasetIndex,
    detections: Sequence[np.ndarray],
    frame_size: tuple[int, int],
    labels: Sequence[ClassLabel],
    mistakes: np.ndarray,
) -> None:
    """Draw the images with the most mistakes, the worst first, as `save_predictions` does.

    Nothing is written if there are no mistakes. `mistakes` [images] are counted by
    `utils.evaluation.confusion.count_mistakes`.
    """
    worst = np.argsort(-mistakes, kind="stable")[:COMPARED_IMAGES]
    save_predictions(path, index, detections, frame_size, labels, worst[mistakes[worst] > 0].tolist())


def _spread(index: DatasetIndex) -> list[int]:
    """Choose images with labels, spread evenly over the list; any images if none has labels."""
    candidates = [image for image, labels in enumerate(index.labels) if len(labels)] or list(range(len(index)))
    count = min(COMPARED_IMAGES, len(candidates))
    return [candidates[position * len(candidates) // count] for position in range(count)]
