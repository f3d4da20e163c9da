"""What ranges activations have, and where it is best to cut them off for 8 bits."""

import numpy as np

from utils.dataset.images import list_images, read_image
from utils.errors import InputError

BINS = 2048
LEVELS = 127  # of a signed 8-bit number, on each side of 0
CUTS = np.arange(64, BINS + 1, 16)  # bins after which a range may end


def read_calibration(path, count, size):
    """The first images of a list at the network's size.

    Args:
        path: list file, folder or glob (`utils.dataset.images.list_images`).
        count: how many.
        size: (width, height).
    Returns:
        list of [H, W, 3] uint8 arrays, BGR.
    Raises:
        InputError: there is none, or one cannot be read.
    """
    from utils.dataset.dataset import resize_image

    paths = list_images(path)[:count]
    if not paths:
        raise InputError(f"{path}: expected images to calibrate with, got an empty list")
    return [resize_image(read_image(image), *size) for image in paths]


class Range:
    """The values of one tensor over all calibration images."""

    def __init__(self, lowest, highest):
        self.lowest, self.highest = lowest, highest
        self.counts = np.zeros(BINS)

    @property
    def largest(self):
        return max(-self.lowest, self.highest)

    def count(self, values):
        self.counts += np.histogram(np.abs(values), BINS, (0, self.largest or 1))[0]

    def cut(self):
        """The limit beyond which values are best clipped: the one of least squared error.

        A value within it is rounded to a multiple of s = limit/127, which costs s²/12 on average (a value below s/2
        becomes 0 and costs its square); one beyond it costs the square of what is cut off (Banner et al. 2019,
        arXiv:1810.05723, who find that limit in closed form for two distributions; here it is counted).
        """
        if not self.largest:
            return 1.0
        values = (np.arange(BINS) + 0.5) / BINS * self.largest
        limits = CUTS / BINS * self.largest
        steps = limits / LEVELS
        inside = np.minimum(values**2, steps[:, None] ** 2 / 12)
        costs = np.where(values > limits[:, None], (values - limits[:, None]) ** 2, inside)
        # The first bin holds zeros, which are exact.
        return float(limits[np.argmin(costs[:, 1:] @ self.counts[1:])])


def observe(run, images, names):
    """{name: Range} of tensors over some images.

    Args:
        run: function of one image that gives the arrays of `names`, in their order.
        images: list, gone through twice: for the extremes, then for the distribution.
        names: of the tensors.
    """
    extremes = [(0.0, 0.0)] * len(names)
    for image in images:
        extremes = [
            (min(low, float(values.min())), max(high, float(values.max())))
            for (low, high), values in zip(extremes, run(image), strict=True)
        ]
    ranges = [Range(*pair) for pair in extremes]
    for image in images:
        for observed, values in zip(ranges, run(image), strict=True):
            observed.count(values)
    return dict(zip(names, ranges, strict=True))
