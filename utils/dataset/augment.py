"""Augmentations of training images and their labels.

An augmentation is a function of (image [H, W, 3] uint8 BGR, labels [n, 5] float32 (class, cx, cy, w, h), generator)
that returns the changed ones and may write to its arguments. The generator depends only on seed, epoch and image index.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np
from numpy.random import Generator

from utils.boxes import corners

Augmented = tuple[np.ndarray, np.ndarray]  # image and labels
Augmentation = Callable[[np.ndarray, np.ndarray, Generator], Augmented]

ZOOM_RANGE = (0.6, 1.6)
MIN_VISIBLE = 0.4  # share of a box's area; boxes with less are removed
MIN_SIDE = 2  # pixels; thinner boxes are removed
GRAY = (114, 114, 114)


def contrast_brightness(image: np.ndarray, labels: np.ndarray, rng: Generator) -> Augmented:
    """image · α + β, α and β uniform in 0.25…1.75: the original's only augmentation (β in gray levels)."""
    contrast, brightness = rng.uniform(0.25, 1.75, 2)
    return cv2.convertScaleAbs(image, alpha=contrast, beta=brightness), labels


def flip(image: np.ndarray, labels: np.ndarray, rng: Generator) -> Augmented:
    """Mirror left and right with a probability of 0.5."""
    if rng.random() < 0.5:
        image = cv2.flip(image, 1)
        labels[:, 1] = 1 - labels[:, 1]
    return image, labels


def mild_contrast_brightness(image: np.ndarray, labels: np.ndarray, rng: Generator) -> Augmented:
    """image · α + β, α uniform in 0.6…1.4 and β uniform in −30…30 gray levels."""
    table = np.arange(256) * rng.uniform(0.6, 1.4) + rng.uniform(-30, 30)
    return cv2.LUT(image, table.round().clip(0, 255).astype(np.uint8)), labels


def zoom(image: np.ndarray, labels: np.ndarray, rng: Generator) -> Augmented:
    """Enlarge or shrink by a log-uniform factor in ZOOM_RANGE; crop, or place on gray, at a random position."""
    height, width = image.shape[:2]
    factor = math.exp(rng.uniform(*np.log(ZOOM_RANGE)))
    margin = 1 - factor  # share of the frame that the image does not cover; negative: share that is cropped
    left, top = rng.uniform(min(0, margin), max(0, margin), 2)
    matrix = np.float32([[factor, 0, left * width], [0, factor, top * height]])
    image = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=GRAY)
    return image, place_labels(labels, factor, (left, top), (width, height))


def place_labels(
    labels: np.ndarray, factor: float, offset: tuple[float, float], frame_size: tuple[int, int]
) -> np.ndarray:
    """Scale and move labels with their image, and clip them to the frame.

    Args:
        labels: [n, 5], (class, cx, cy, w, h) as fractions of the frame.
        offset: (x, y) of the image's upper left corner, as fractions of the frame.
        frame_size: (width, height) in pixels.

    Returns:
        [m, 5] float32, without the boxes that lose too much area (MIN_VISIBLE) or become too thin (MIN_SIDE).
    """
    low, high = (corner * factor + offset for corner in corners(labels[:, 1:]))
    area = (high - low).prod(1)
    low, high = low.clip(0, 1), high.clip(0, 1)
    sides = high - low
    kept = (sides.prod(1) >= MIN_VISIBLE * area) & (sides * frame_size >= MIN_SIDE).all(1)
    return np.concatenate((labels[:, :1], (low + high) / 2, sides), 1)[kept].astype(np.float32)


def _apply(augmentations: Sequence[Augmentation], image: np.ndarray, labels: np.ndarray, rng: Generator) -> Augmented:
    for augmentation in augmentations:
        image, labels = augmentation(image, labels, rng)
    return image, labels


def _compose(*augmentations: Augmentation) -> Augmentation:
    # Not a nested function: processes that are not forked get the augmentation in a pickle.
    return partial(_apply, augmentations)


AUGMENTATIONS = {
    "contrast_brightness": contrast_brightness,
    "flip_colour": _compose(flip, mild_contrast_brightness),
    "flip_zoom_colour": _compose(flip, zoom, mild_contrast_brightness),
}
