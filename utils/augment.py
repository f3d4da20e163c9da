"""What is done to a training image and its labels before the network sees them.

An augmentation is a function (image [H, W, 3] uint8 BGR, labels [n, 5] float32 (class, cx, cy, w, h), rng) to
the same pair; `rng` is a numpy Generator, so that an image's fate depends on seed, epoch and index alone.
"""

import cv2


def contrast_brightness(image, labels, rng):
    """image · α + β, α and β each uniform in 0.25…1.75: the original's only augmentation (β in grey levels)."""
    contrast, brightness = rng.uniform(0.25, 1.75, 2)
    return cv2.convertScaleAbs(image, alpha=contrast, beta=brightness), labels


AUGMENTATIONS = {"contrast_brightness": contrast_brightness}
