"""What is done to a training image and its labels before the network sees them.

An augmentation is a function (image [H, W, 3] uint8 BGR, labels [n, 5] float32 (class, cx, cy, w, h), rng) to
the same pair; `rng` is a numpy Generator, so that an image's fate depends on seed, epoch and index alone.
"""

import math

import cv2
import numpy as np

ZOOM = (0.6, 1.6)
VISIBLE = 0.4  # share of a box's area
THINNEST = 2  # pixels
GREY = (114, 114, 114)


def contrast_brightness(image, labels, rng):
    """image · α + β, α and β each uniform in 0.25…1.75: the original's only augmentation (β in grey levels)."""
    contrast, brightness = rng.uniform(0.25, 1.75, 2)
    return cv2.convertScaleAbs(image, alpha=contrast, beta=brightness), labels


def flip(image, labels, rng):
    """Mirror left and right, every second image."""
    if rng.random() < 0.5:
        image = cv2.flip(image, 1)
        labels[:, 1] = 1 - labels[:, 1]
    return image, labels


def mild_contrast_brightness(image, labels, rng):
    """image · α + β, α in 0.6…1.4 and β in −30…30 grey levels, each uniform."""
    table = np.arange(256) * rng.uniform(0.6, 1.4) + rng.uniform(-30, 30)
    return cv2.LUT(image, table.round().clip(0, 255).astype(np.uint8)), labels


def zoom(image, labels, rng):
    """The image enlarged or shrunk by a factor from ZOOM, log-uniform, at a random place: cropped, or on grey.

    Boxes are cut at the frame; one that keeps less than VISIBLE of its area, or becomes thinner than THINNEST pixels,
    is no longer a label.
    """
    height, width = image.shape[:2]
    factor = math.exp(rng.uniform(*np.log(ZOOM)))
    room = 1 - factor  # of the frame that the image leaves free, below 0 what it has too much
    left, top = rng.uniform(min(0, room), max(0, room), 2)
    matrix = np.float32([[factor, 0, left * width], [0, factor, top * height]])
    image = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=GREY)
    return image, place_labels(labels, factor, (left, top), (width, height))


def place_labels(labels, factor, offset, frame_size):
    """Labels after their image has been scaled by `factor` and moved by `offset`, a fraction of the frame.

    Args:
        labels: [n, 5], (class, cx, cy, w, h), normalised.
        offset: (x, y) of the image's upper left corner.
        frame_size: (width, height) in pixels.
    Returns:
        [m, 5] float32, those that are still to be seen, cut at the frame.
    """
    half = labels[:, 3:5] / 2
    low = (labels[:, 1:3] - half) * factor + offset
    high = (labels[:, 1:3] + half) * factor + offset
    area = (high - low).prod(1)
    low, high = low.clip(0, 1), high.clip(0, 1)
    sides = high - low
    kept = (sides.prod(1) >= VISIBLE * area) & (sides * frame_size >= THINNEST).all(1)
    return np.concatenate((labels[:, :1], (low + high) / 2, sides), 1)[kept].astype(np.float32)


def _in_turn(*augmentations):
    def augment(image, labels, rng):
        for augmentation in augmentations:
            image, labels = augmentation(image, labels, rng)
        return image, labels

    return augment


AUGMENTATIONS = {
    "contrast_brightness": contrast_brightness,
    "flip_colour": _in_turn(flip, mild_contrast_brightness),
    "flip_zoom_colour": _in_turn(flip, zoom, mild_contrast_brightness),
}
