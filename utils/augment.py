"""What is done to a training image and its labels before the network sees them.

An augmentation is a function (image [H, W, 3] uint8 BGR, labels [n, 5] float32 (class, cx, cy, w, h), rng) to
the same pair; `rng` is a numpy Generator, so that an image's fate depends on seed, epoch and index alone.
"""

import cv2
import numpy as np


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


def _in_turn(*augmentations):
    def augment(image, labels, rng):
        for augmentation in augmentations:
            image, labels = augmentation(image, labels, rng)
        return image, labels

    return augment


AUGMENTATIONS = {
    "contrast_brightness": contrast_brightness,
    "flip_colour": _in_turn(flip, mild_contrast_brightness),
}
