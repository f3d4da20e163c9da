"""Augmentations of training images and their labels.

An augmentation draws a `Change` from a random generator, which depends only on seed, epoch and image index. The change
is then applied to the image and to its labels. `utils.dataset.device_images` applies it to images on a GPU.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator

from utils.boxes import corners

ZOOM_RANGE = (0.6, 1.6)
MIN_VISIBLE = 0.4  # share of a box's area; boxes with less are removed
MIN_SIDE = 2  # pixels; thinner boxes are removed
GRAY = 114  # of the frame around a shrunk image


class Change(NamedTuple):
    """What an augmentation does to an image, in this order. The defaults do nothing."""

    mirrored: bool = False  # left and right
    factor: float = 1.0  # zoom factor
    left: float = 0.0  # position of the image's upper left corner, as fractions of the frame; the rest is gray
    top: float = 0.0
    contrast: float = 1.0  # multiplies the pixels
    brightness: float = 0.0  # added to the pixels after that, in gray levels


Augmentation = Callable[[Generator], Change]


def contrast_brightness(rng: Generator) -> Change:
    """Contrast and brightness uniform in 0.25…1.75 (brightness in gray levels): the original's only augmentation."""
    contrast, brightness = rng.uniform(0.25, 1.75, 2)
    return Change(contrast=contrast, brightness=brightness)


def flip_colour(rng: Generator) -> Change:
    """Mirror with a probability of 0.5; mild contrast and brightness."""
    return Change(mirrored=rng.random() < 0.5, **_draw_mild_colour(rng))


def flip_zoom_colour(rng: Generator) -> Change:
    """As `flip_colour`, with a zoom in between."""
    return Change(mirrored=rng.random() < 0.5, **_draw_zoom(rng), **_draw_mild_colour(rng))


AUGMENTATIONS: dict[str, Augmentation] = {
    function.__name__: function for function in (contrast_brightness, flip_colour, flip_zoom_colour)
}


def _draw_zoom(rng: Generator) -> dict[str, float]:
    """Draw a log-uniform factor in ZOOM_RANGE, and a position at which the image is cropped or placed on gray."""
    factor = math.exp(rng.uniform(*np.log(ZOOM_RANGE)))
    margin = 1 - factor  # share of the frame that the image does not cover; negative: share that is cropped
    left, top = rng.uniform(min(0, margin), max(0, margin), 2)
    return {"factor": factor, "left": left, "top": top}


def _draw_mild_colour(rng: Generator) -> dict[str, float]:
    return {"contrast": rng.uniform(0.6, 1.4), "brightness": rng.uniform(-30, 30)}


def change_image(image: np.ndarray, change: Change) -> np.ndarray:
    """Apply a change to an image [H, W, 3] uint8; the result is a new array or the same one."""
    if change.mirrored:
        image = cv2.flip(image, 1)
    if change.factor != 1:
        height, width = image.shape[:2]
        matrix = np.float32([[change.factor, 0, change.left * width], [0, change.factor, change.top * height]])
        image = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=(GRAY,) * 3)
    if (change.contrast, change.brightness) != (1, 0):
        table = np.arange(256) * change.contrast + change.brightness
        image = cv2.LUT(image, table.round().clip(0, 255).astype(np.uint8))
    return image


def change_labels(labels: np.ndarray, change: Change, frame_size: tuple[int, int]) -> np.ndarray:
    """Apply a change to labels: mirror, scale and move them with their image, and clip them to the frame.

    Args:
        labels: [n, 5] float32, (class, cx, cy, w, h) as fractions of the frame.
        frame_size: (width, height) in pixels.

    Returns:
        [m, 5] float32, without the boxes that lose too much area (MIN_VISIBLE) or become too thin (MIN_SIDE) by a zoom.
    """
    if change.mirrored:
        labels = labels.copy()
        labels[:, 1] = 1 - labels[:, 1]
    if change.factor == 1:
        return labels
    low, high = (corner * change.factor + (change.left, change.top) for corner in corners(labels[:, 1:]))
    area = (high - low).prod(1)
    low, high = low.clip(0, 1), high.clip(0, 1)
    sides = high - low
    kept = (sides.prod(1) >= MIN_VISIBLE * area) & (sides * frame_size >= MIN_SIDE).all(1)
    return np.concatenate((labels[:, :1], (low + high) / 2, sides), 1)[kept].astype(np.float32)
