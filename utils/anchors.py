"""Anchors: k-means on box sizes, statistics of how well anchors fit, and the files that hold anchors.

Only widths and heights matter here: two boxes are compared as if they had the same center. All sizes and anchors are
(width, height) in input pixels.
"""

import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from utils.boxes import shape_iou, side_ratio
from utils.errors import InputError
from utils.files import atomic_path, read_text, write_text
from utils.text import align_columns

MATCH_RATIO = 2.0  # the original's loss matches an anchor with a box if both sides differ by less than this factor
RESTARTS = 10
DECIMALS = 2  # of an anchor in a file

_LARGEST = 1e7  # pixels; in hundredths of a pixel this still fits into 32 bits
_PAIRS = 1 << 16  # pairs of boxes and anchors that are compared at once, so that the arrays fit into the CPU's cache
_BLANKS = r"[^\S\r\n]*"
# The anchors entry of a .data file. Groups: the text before the value, the value with the blanks after it, the comment.
_ENTRY = re.compile(rf"((?:\A\ufeff?|(?<=[\r\n])){_BLANKS}anchors{_BLANKS}={_BLANKS})([^#\r\n]*)(#[^\r\n]*)?")


class Fit(NamedTuple):
    """How well anchors fit boxes."""

    average_iou: float  # mean over all boxes of the IoU with the nearest anchor
    recall: float  # fraction of the boxes that match at least one anchor in the original's loss
    boxes: tuple[int, ...]  # for each anchor, the count of boxes for which it is the nearest one


def box_sizes(labels: Sequence[np.ndarray], width: int, height: int) -> np.ndarray:
    """Return the [boxes, 2] sizes of label boxes in input pixels, as float64.

    Args:
        labels: labels per image, each [n, 5] of (class, cx, cy, w, h), normalized.
    """
    return np.concatenate([np.empty((0, 5)), *labels])[:, 3:5] * (width, height)


def fit(sizes: ArrayLike, anchors: ArrayLike) -> Fit:
    """Measure how well anchors [k, 2] fit boxes of sizes [n, 2].

    Raises:
        InputError: there are no boxes, or a size is not above 0 and below 1e7.
    """
    sizes = _check_sizes(sizes)
    anchors = np.asarray(anchors, dtype=np.float64).reshape(-1, 2)
    nearest, iou = _find_nearest(sizes, anchors)
    matched = sum(int((side_ratio(part, anchors) < MATCH_RATIO).any(1).sum()) for part in _split(sizes, len(anchors)))
    boxes = np.bincount(nearest, minlength=len(anchors))
    return Fit(float(iou.mean()), matched / len(sizes), tuple(boxes.tolist()))


def fit_report(anchors: np.ndarray, fitted: Fit) -> str:
    """Describe anchors [k, 2] and their fit in a few lines of text."""
    rows = [("width", "height", "boxes")]
    rows += [(f"{w:.2f}", f"{h:.2f}", str(boxes)) for (w, h), boxes in zip(anchors, fitted.boxes, strict=True)]
    return "\n".join(
        (
            f"average IoU {fitted.average_iou:.6f}",
            f"best possible recall {fitted.recall:.2%} (boxes within a factor of {MATCH_RATIO:g} of an anchor)",
            align_columns(rows, left=()),
        )
    )


def cluster(sizes: ArrayLike, clusters: int, seed: int = 0, restarts: int = RESTARTS) -> np.ndarray:
    """Find anchors with k-means: distance 1 − IoU, k-means++ starts, the best result of several starts.

    Lloyd's iterations run until the assignments stop changing. The center of a cluster is the geometric mean of its
    boxes, because IoU and the loss compare ratios of sides, and a few large boxes would dominate an arithmetic mean.
    Sizes are rounded to hundredths of a pixel, the precision of anchors in a file. Each anchor is the nearest anchor of
    at least one box.

    Args:
        sizes: [n, 2] sizes of the boxes.
        seed: for the random starts; the same seed gives the same anchors.

    Returns:
        [clusters, 2] anchors sorted by width, rounded to two decimals.

    Raises:
        InputError: there are no boxes, there are fewer distinct sizes than clusters, or a size is not above 0 and
            below 1e7.
    """
    distinct, counts = distinct_sizes(sizes)
    if len(distinct) < clusters:
        raise InputError(
            f"expected boxes of at least {clusters} different sizes for {clusters} clusters, "
            f"got {len(distinct)} (boxes in all: {counts.sum()})"
        )
    random = np.random.default_rng(seed)
    best, best_iou = None, -1.0
    for _ in tqdm(range(restarts), desc=f"{clusters} clusters", unit="start", leave=False, disable=None):
        centers, _ = lloyd(distinct, counts, start_centers(distinct, counts, clusters, random))
        # Rounding can leave an anchor without a box when clusters lie within hundredths of a pixel.
        anchors, _ = _assign(distinct, _round_sizes(centers))
        average_iou = fit(sizes, anchors).average_iou
        if average_iou > best_iou:
            best, best_iou = anchors, average_iou
    return best[np.lexsort((best[:, 1], best[:, 0]))]


def distinct_sizes(sizes: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct sizes [m, 2] in hundredths of a pixel, sorted by width, and the count [m] of boxes of each.

    Raises:
        InputError: as `cluster`.
    """
    steps = np.rint(_round_sizes(_check_sizes(sizes)) * 10**DECIMALS).astype(np.int64)
    # Width and height in one integer: sorting integers is many times faster than sorting rows.
    keys, counts = np.unique(steps[:, 0] << 32 | steps[:, 1], return_counts=True)
    return np.stack((keys >> 32, keys & 0xFFFFFFFF), 1) / 10**DECIMALS, counts


def start_centers(sizes: np.ndarray, counts: np.ndarray, clusters: int, random: np.random.Generator) -> np.ndarray:
    """Draw the [clusters, 2] centers to start from, as k-means++ does (Arthur and Vassilvitskii 2007).

    Each next center is a box, drawn with probability ∝ (1 − IoU with the nearest center)². The centers differ, because
    a size that is a center already has probability 0.
    """
    distance = np.ones(len(sizes))
    centers = []
    for _ in range(clusters):
        cumulative = np.cumsum(counts * distance**2)
        # side="right" never selects a size of probability 0.
        chosen = np.searchsorted(cumulative, random.random() * cumulative[-1], side="right")
        centers.append(sizes[chosen])
        distance = np.minimum(distance, 1 - shape_iou(sizes, sizes[chosen : chosen + 1])[:, 0])
    return np.array(centers)


def lloyd(sizes: np.ndarray, counts: np.ndarray, centers: np.ndarray) -> tuple[np.ndarray, int]:
    """Run Lloyd's iterations: assign each box to its nearest center, move the centers, until nothing changes.

    Args:
        sizes: [n, 2] distinct sizes.
        counts: [n] number of boxes of each size.
        centers: [k, 2] centers to start from.

    Returns:
        [k, 2] centers, and the number of iterations.
    """
    terms = np.stack((counts, *(counts * np.log(sizes.T))))
    seen = set()
    # A move to the mean does not always lower 1 − IoU, so the iterations may reach a cycle instead of a fixed
    # point. In both cases the centers repeat.
    while centers.tobytes() not in seen:
        seen.add(centers.tobytes())
        centers, nearest = _assign(sizes, centers)
        boxes, log_width, log_height = (np.bincount(nearest, weights=values) for values in terms)
        centers = np.exp(np.stack((log_width, log_height), 1) / boxes[:, None])
    return centers, len(seen)


def _assign(sizes: np.ndarray, centers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Assign each size to its nearest center, and move centers without a size onto the size farthest from all centers.

    Ends after at most k moves, because a center that lies on a size keeps that size.

    Returns:
        [k, 2] centers, and the [n] index of the nearest center of each size.
    """
    while True:
        nearest, iou = _find_nearest(sizes, centers)
        counts = np.bincount(nearest, minlength=len(centers))
        if counts.all():
            return centers, nearest
        centers = centers.copy()
        centers[counts.argmin()] = sizes[iou.argmin()]


def _find_nearest(sizes: np.ndarray, anchors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the [n] index of the anchor with the highest IoU for each size, and that IoU."""
    ious = (shape_iou(part, anchors) for part in _split(sizes, len(anchors)))
    indices, best = zip(*((iou.argmax(1), iou.max(1)) for iou in ious), strict=True)
    return np.concatenate(indices), np.concatenate(best)


def _split(sizes: np.ndarray, anchor_count: int) -> list[np.ndarray]:
    """Split sizes into parts of at most about _PAIRS pairs with the anchors, to limit memory use."""
    return np.array_split(sizes, math.ceil(len(sizes) * anchor_count / _PAIRS))


def _round_sizes(sizes: np.ndarray) -> np.ndarray:
    """Round to the decimals of a file; a size that would become 0 becomes the smallest size above 0."""
    return np.maximum(np.round(sizes, DECIMALS), 10**-DECIMALS)


def _check_sizes(sizes: ArrayLike) -> np.ndarray:
    sizes = np.asarray(sizes, dtype=np.float64).reshape(-1, 2)
    if not len(sizes):
        raise InputError("expected boxes, got none")
    wrong = ~((sizes > 0) & (sizes < _LARGEST)).all(1)  # also true for NaN
    if wrong.any():
        index = int(wrong.argmax())
        width, height = sizes[index]
        raise InputError(
            f"box {index}: expected a width and height above 0 and below {_LARGEST:g} px, got {width:g} x {height:g}"
        )
    return sizes


def format_anchors(anchors: ArrayLike) -> str:
    """Format anchors [k, 2] as in a .data file: `12.64,19.39, 37.88,51.48`."""
    return ", ".join(f"{width:.2f},{height:.2f}" for width, height in anchors)


def write_anchor_file(path: Path, anchors: np.ndarray, average_iou: float) -> None:
    """Write the original's file format: anchors on line 1, average IoU on line 2."""
    write_text(path, f"{format_anchors(anchors)}\n{average_iou:.6f}\n")


def replace_anchors(path: Path, anchors: ArrayLike) -> Path:
    """Write anchors [k, 2] into a .data file; all other bytes of the file stay the same.

    A comment after the anchors keeps its column where there is room. The previous file is saved next to it as
    `NAME.bak`, or as `NAME.bak-2`, `NAME.bak-3`, … if that exists.

    Returns:
        Path of the backup.

    Raises:
        InputError: there is no anchors entry, the file cannot be read, or the folder cannot be written to.
    """
    path = Path(path)
    if path.is_symlink():  # replace the file that the link points to, not the link
        path = path.resolve()
    read_text(path)  # for its errors; read_text converts line ends, which must stay
    before = path.read_bytes()
    after, found = _ENTRY.subn(lambda entry: _replace_value(entry, format_anchors(anchors)), before.decode(), count=1)
    if not found:
        raise InputError(f"{path}: expected an entry 'anchors=…', found none")
    suffixes = itertools.chain([".bak"], (f".bak-{count}" for count in itertools.count(2)))
    backups = (path.with_name(path.name + suffix) for suffix in suffixes)
    backup = next(candidate for candidate in backups if not candidate.exists())
    for target, content in ((backup, before), (path, after.encode())):
        with atomic_path(target) as temporary:
            temporary.write_bytes(content)
    return backup


def _replace_value(entry: re.Match, text: str) -> str:
    start, value, comment = entry.groups()
    if comment is None:
        return start + text + value[len(value.rstrip()) :]
    return start + text.ljust(max(len(value), len(text) + 1)) + comment
