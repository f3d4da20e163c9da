"""Find identical images, and images that are rotated, mirrored or re-encoded copies of others."""

import os
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from utils.check.decode import DecodedImage
from utils.dataset.similar import BATCH, MIN_CORRELATION, correlate
from utils.dataset.statistics import ERROR, WARNING, DatasetStatistics, Finding


class Copy(NamedTuple):
    """A pair of similar images."""

    first: int  # index in the first list
    second: int  # index in the second list
    rotation: int  # degrees, counter-clockwise, that turn the first into the second
    mirrored: bool  # whether the first also has to be mirrored after the rotation


def find_identical(sets: dict[str, DatasetStatistics], decoded: dict[str, list[DecodedImage]]) -> list[Finding]:
    """Find images with equal pixels: an error if one is in train and one in val, a warning if both are in one set."""
    places = defaultdict(lambda: defaultdict(list))  # digest → set → positions
    for key, images in decoded.items():
        for position, image in enumerate(images):
            if image.digest:
                places[image.digest][key].append((key, position))
    leaks = []
    repeated = {key: [] for key in sets}
    for found in places.values():
        for key in sets:
            if len(found[key]) > 1:
                repeated[key].append(_describe_identical(sets, found[key]))
        leaks += [_describe_identical(sets, [place, found["train"][0]]) for place in found["val"] if found["train"]]
    return [
        Finding(ERROR, "leakage: images in val that are also in train", leaks),
        *(Finding(WARNING, f"{key}: identical images", lines) for key, lines in repeated.items()),
    ]


def _describe_identical(sets: dict[str, DatasetStatistics], places: Sequence[tuple[str, int]]) -> str:
    """Name identical images, given as (set, position), and compare their labels."""
    images = [sets[key].index.images[position] for key, position in places]
    if len(set(map(os.path.abspath, images))) == 1:
        in_one_set = len({key for key, _ in places}) == 1
        return f"{images[0]} is " + (f"listed {len(places)} times" if in_one_set else "in both lists")
    line = " = ".join(images)
    labels = [sets[key].index.labels[position] for key, position in places]
    # The order of the lines in a label file has no meaning.
    ordered = [rows[np.lexsort(rows.T)] for rows in labels]
    if all(np.array_equal(ordered[0], rows) for rows in ordered[1:]):
        return line
    return f"{line} (their labels differ, boxes: {', '.join(str(len(rows)) for rows in labels)})"


def find_similar(sets: dict[str, DatasetStatistics], decoded: dict[str, list[DecodedImage]]) -> Finding:
    """Find val images that look like a train image, also if it is rotated or mirrored, but are not identical to it."""
    identical = {image.digest for image in decoded["train"]}
    positions = [
        position for position, image in enumerate(decoded["val"]) if image.digest and image.digest not in identical
    ]
    val, train = (np.stack([image.thumbnail for image in decoded[key]]) for key in ("val", "train"))
    lines = []
    for copy in find_copies(val[positions], train):
        changes = [f"rotated by {copy.rotation}°"] * (copy.rotation > 0) + ["mirrored"] * copy.mirrored
        images = (sets["val"].index.images[positions[copy.first]], sets["train"].index.images[copy.second])
        lines.append("{} ≈ {} ({})".format(*images, " and ".join(changes) or "same orientation"))
    return Finding(WARNING, "leakage: images in val that look like one in train", lines)


def find_copies(first: np.ndarray, second: np.ndarray) -> list[Copy]:
    """Find the most similar thumbnail of `second` for each of `first`, in all eight orientations.

    Args:
        first: [n, THUMBNAIL²] from `make_thumbnail`.
        second: [m, THUMBNAIL²] from `make_thumbnail`.

    Returns:
        At most one Copy for each of `first`, if the correlation is above MIN_CORRELATION.
    """
    copies = []
    second = second.astype(np.float32)
    for start in range(0, len(first) if len(second) else 0, BATCH):
        correlation = correlate(first[start : start + BATCH].astype(np.float32), second)
        flat = correlation.reshape(len(correlation), -1)
        best = flat.argmax(1)
        for row in np.flatnonzero(flat.max(1) > MIN_CORRELATION).tolist():
            view, match = divmod(int(best[row]), len(second))
            copies.append(Copy(start + row, match, 90 * (view % 4), view >= 4))
    return copies
