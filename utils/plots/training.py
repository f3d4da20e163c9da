"""Pictures of a training run: the first batches as the network sees them, and val predictions beside labels."""

import math

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utils.dataset.images import read_image
from utils.errors import InputError
from utils.evaluation.confusion import count_mistakes
from utils.files import atomic_path
from utils.plots.draw import draw_detections
from utils.plots.fonts import default_font

BATCHES = 3
BATCH_IMAGES = 16  # of a batch that are drawn
COMPARED = 12  # val images with predictions beside labels
CONF = 0.3  # predictions that score more are drawn
TILE = 416  # pixels of an image's longer side
_GAP = 6
_CAPTION = 28
_FONT = 17
_COLUMNS = 4
_QUALITY = 92


def save_first_batches(folder, dataset, batches, tags):
    """`train_batch_1.jpg` and so on: the first images of the first batches, augmented, with their boxes.

    Args:
        folder: of the run.
        dataset: DetectionDataset of the training, with its augmentation.
        batches: TrainBatches.
        tags: a ClassLabel a class.
    Returns:
        list of the paths written.
    """
    dataset.set_epoch(0)
    paths = []
    for step in range(min(BATCHES, batches.steps)):
        tiles = []
        for number in batches.numbers(0, step)[:BATCH_IMAGES].tolist():
            pixels, labels = dataset[number]
            tiles.append(draw_labels(pixels.permute(1, 2, 0).numpy(), labels[:, 1:].numpy(), tags))
        paths.append(folder / f"train_batch_{step + 1}.jpg")
        _save(paths[-1], _grid(tiles, min(_COLUMNS, math.ceil(math.sqrt(len(tiles))))))
    return paths


def save_predictions(path, index, detections, frame_size, tags, numbers=None):
    """Some val images twice, with their labels on the left and the predictions on the right.

    Args:
        path: JPEG to write.
        index: DatasetIndex.
        detections: a [n, 6] array an image, (x1, y1, x2, y2, score, class) in pixels of the network's frame.
        frame_size: (width, height) of that frame.
        tags: a ClassLabel a class.
        numbers: of the images; by default some that have labels, spread evenly over the list.
    """
    tiles = []
    for number in _choose(index) if numbers is None else numbers:
        try:
            image = read_image(index.images[number])
        except InputError:
            continue
        found = np.asarray(detections[number], np.float64).reshape(-1, 6)
        found = found[found[:, 4] > CONF]
        # The same tile for both, so that they differ in the boxes alone.
        image = _fit(image)
        height, width = image.shape[:2]
        factors = np.tile(np.array((width, height)) / frame_size, 2)
        boxes = (found[:, :4] * factors).clip(0, (width, height, width, height))
        predicted = draw_detections(image, np.hstack((boxes, found[:, 4:])), tags)
        pair = (draw_labels(image, index.labels[number], tags), predicted)
        captions = ("labels", f"predictions above {CONF:g}")
        tiles += [_captioned(tile, caption) for tile, caption in zip(pair, captions, strict=True)]
    if tiles:
        _save(path, _grid(tiles, _COLUMNS))


def save_worst(path, index, detections, frame_size, tags):
    """`save_predictions` of the images with the most mistakes, the worst first."""
    mistakes = count_mistakes(detections, index.labels, frame_size, len(tags))
    worst = np.argsort(-mistakes, kind="stable")[:COMPARED]
    save_predictions(path, index, detections, frame_size, tags, worst[mistakes[worst] > 0].tolist())


def draw_labels(image, labels, tags):
    """An image at a tile's size with the boxes of its labels.

    Args:
        image: [H, W, 3] uint8, BGR.
        labels: [n, 5], (class, cx, cy, w, h), normalised.
        tags: a ClassLabel a class.
    """
    image = _fit(image)
    height, width = image.shape[:2]
    corners = np.hstack((labels[:, 1:3] - labels[:, 3:5] / 2, labels[:, 1:3] + labels[:, 3:5] / 2)).clip(0, 1)
    corners = corners * (width, height, width, height)
    return draw_detections(image, np.hstack((corners, np.full((len(labels), 1), math.nan), labels[:, :1])), tags)


def _choose(index):
    """Numbers of images with labels, spread evenly over the list; without labels only where there are no others."""
    numbers = [number for number, labels in enumerate(index.labels) if len(labels)] or list(range(len(index)))
    return (
        [numbers[place * len(numbers) // COMPARED] for place in range(COMPARED)] if len(numbers) > COMPARED else numbers
    )


def _fit(image):
    height, width = image.shape[:2]
    factor = TILE / max(height, width)
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)


def _captioned(tile, caption):
    """The tile, as wide as all tiles are, with a line of text above."""
    height, width = tile.shape[:2]
    strip = Image.new("RGB", (TILE, _CAPTION), "white")
    font = ImageFont.truetype(default_font(), _FONT)
    ImageDraw.Draw(strip).text((TILE // 2, _CAPTION // 2), caption, fill="black", font=font, anchor="mm")
    canvas = np.full((_CAPTION + height, TILE, 3), 255, np.uint8)
    canvas[:_CAPTION] = np.asarray(strip)
    left = (TILE - width) // 2
    canvas[_CAPTION:, left : left + width] = tile
    return canvas


def _grid(tiles, columns):
    """Tiles of one width, side by side with gaps; a row is as high as its highest."""
    rows = [tiles[first : first + columns] for first in range(0, len(tiles), columns)]
    heights = [max(len(tile) for tile in row) for row in rows]
    width = tiles[0].shape[1]
    shape = (sum(heights) + _GAP * (len(rows) + 1), len(rows[0]) * (width + _GAP) + _GAP, 3)
    canvas = np.full(shape, 255, np.uint8)
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        for number, tile in enumerate(row):
            left = _GAP + number * (width + _GAP)
            canvas[top : top + len(tile), left : left + width] = tile
        top += height + _GAP
    return canvas


def _save(path, image):
    with atomic_path(path) as temporary:
        encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
        temporary.write_bytes(encoded.tobytes())
