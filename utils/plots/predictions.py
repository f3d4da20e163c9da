"""Images with their labels and with a detector's predictions, next to each other."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.boxes import frame_to_image
from utils.dataset.images import read_image
from utils.dataset.index import DatasetIndex
from utils.errors import InputError
from utils.plots.draw import draw_detections, draw_labels
from utils.plots.fonts import ClassLabel
from utils.plots.mosaic import COLUMNS, TILE_SIDE, Tile, fit_to_side, save_mosaic

COMPARED_IMAGES = 12
CONF = 0.3  # predictions with a higher score are drawn


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
        detections: one [n, 6] array per image, (x1, y1, x2, y2, score, class id) in input pixels.
        frame_size: (width, height) of the network's input in pixels.
        image_indices: the first COMPARED_IMAGES are drawn; None: images with labels, spread evenly over the list.
    """
    tiles = []
    for image_index in _spread(index) if image_indices is None else image_indices[:COMPARED_IMAGES]:
        try:
            image = fit_to_side(read_image(index.images[image_index]), TILE_SIDE)
        except InputError:
            continue
        rows = np.asarray(detections[image_index], np.float64).reshape(-1, 6)
        rows = rows[rows[:, 4] > CONF]
        rows[:, :4] = frame_to_image(rows[:, :4], frame_size, image.shape[1::-1])
        name = Path(index.images[image_index]).name
        tiles.append(Tile(draw_labels(image, index.labels[image_index], labels), f"labels of {name}"))
        tiles.append(Tile(draw_detections(image, rows, labels), f"predictions above {CONF:g}"))
    if tiles:
        save_mosaic(path, tiles, COLUMNS, TILE_SIDE)


def _spread(index: DatasetIndex) -> list[int]:
    """Choose images with labels, spread evenly over the list; any images if none has labels."""
    candidates = [image for image, labels in enumerate(index.labels) if len(labels)] or list(range(len(index)))
    count = min(COMPARED_IMAGES, len(candidates))
    return [candidates[position * len(candidates) // count] for position in range(count)]
