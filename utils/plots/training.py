"""Plots of a training run: losses, metrics, and the images of the first batches."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.ticker import MaxNLocator

from utils.dataset.dataset import DetectionDataset
from utils.dataset.sampler import TrainBatches
from utils.plots.draw import draw_labels
from utils.plots.figure import saved_figure
from utils.plots.fonts import ClassLabel
from utils.plots.mosaic import COLUMNS, TILE_SIDE, Tile, fit_to_side, save_mosaic

BATCHES = 3
BATCH_IMAGES = 16  # images per batch that are drawn
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
