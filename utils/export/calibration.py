"""Measure the ranges of activations and choose where int8 clips them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from utils.dataset.images import read_resized
from utils.dataset.lists import list_images
from utils.errors import InputError
from utils.postprocess import sigmoid

BINS = 2048
LEVELS = 127  # largest absolute value in int8
ALL_LEVELS = 255  # steps between the lowest and the highest value
CLIP_BINS = np.arange(64, BINS + 1, 16)  # candidate limits, in bins


def read_calibration(source: str | Path | None, count: int, size: tuple[int, int]) -> list[np.ndarray]:
    """Read the first images of a list and resize them to the input size.

    Args:
        source: list file, folder or glob, see `utils.dataset.lists.list_images`; None is an error.
        size: (width, height) of the input.

    Returns:
        Images, each [H, W, 3] uint8, BGR.

    Raises:
        InputError: there is no list or no image in it, or an image cannot be read.
    """
    if source is None:
        raise InputError("--calib: expected a list of images to calibrate int8 with, because there is no train list")
    paths = list_images(source)[:count]
    if not paths:
        raise InputError(f"{source}: expected images to calibrate with, got an empty list")
    return [read_resized(path, *size) for path in paths]


class Histogram:
    """Histogram of the absolute values of one tensor over all calibration images."""

    def __init__(self, lowest: float, highest: float) -> None:
        self.lowest, self.highest = lowest, highest
        self.largest = max(-lowest, highest)
        self.counts = np.zeros(BINS)

    def add(self, values: np.ndarray) -> None:
        self.counts += np.histogram(np.abs(values), BINS, (0, self.largest or 1))[0]

    def clip_limit(self, levels: int = LEVELS) -> float:
        """Return the clipping limit with the lowest squared error.

        A value v below the limit is rounded to a multiple of s = limit / levels. This costs s²/12 on average, but never
        more than v², because small values become 0. A value above the limit costs the square of its distance from it.
        Banner et al. 2019 (arXiv:1810.05723) derive the limit for two distributions; a histogram needs no such
        assumption.
        """
        if not self.largest:
            return 1.0
        values, limits = self._centers(), CLIP_BINS / BINS * self.largest
        steps = limits / levels
        rounding = np.minimum(values**2, steps[:, None] ** 2 / 12)
        costs = np.where(values > limits[:, None], (values - limits[:, None]) ** 2, rounding)
        # The first bin contains zeros, which are exact.
        return float(limits[np.argmin(costs[:, 1:] @ self.counts[1:])])

    def sigmoid_clip_limit(self) -> float:
        """Return the clipping limit with the lowest squared error after a sigmoid, for int8 with a zero point.

        An error in a large logit changes the probability little: a rounding error of s²/12 costs σ'(v)² · s²/12.
        """
        if not self.largest:
            return 1.0
        values, limits = self._centers(), CLIP_BINS / BINS * self.largest
        steps = (np.minimum(limits, self.highest) + np.minimum(limits, -self.lowest)) / ALL_LEVELS
        slopes = sigmoid(values) * (1 - sigmoid(values))
        clipped = (sigmoid(values) - sigmoid(limits[:, None])) ** 2
        costs = np.where(values > limits[:, None], clipped, slopes**2 * steps[:, None] ** 2 / 12)
        return float(limits[np.argmin(costs @ self.counts)])

    def clip(self, limit: float) -> tuple[float, float]:
        """Return the lowest and the highest value after clipping the absolute values at `limit`."""
        return max(self.lowest, -limit), min(self.highest, limit)

    def _centers(self) -> np.ndarray:
        return (np.arange(BINS) + 0.5) / BINS * self.largest


def observe(run: Callable[[np.ndarray], Sequence[np.ndarray]], images: Sequence[np.ndarray]) -> list[Histogram]:
    """Collect the values of tensors over all images, in two passes: first the extremes, then the histograms.

    Args:
        run: returns the tensors for one image, always in the same order.

    Returns:
        One histogram per tensor.
    """
    extremes = np.array([[(values.min(), values.max()) for values in run(image)] for image in images], float)
    lowest, highest = extremes[..., 0].min(0, initial=0), extremes[..., 1].max(0, initial=0)
    histograms = [Histogram(*pair) for pair in zip(lowest.tolist(), highest.tolist(), strict=True)]
    for image in images:
        for histogram, values in zip(histograms, run(image), strict=True):
            histogram.add(values)
    return histograms
