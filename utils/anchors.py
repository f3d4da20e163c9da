"""Anchors: finding them with k-means on box shapes, telling how well given ones fit, and the files they are in.

Only widths and heights matter here; two boxes are compared as if they shared a corner. Sizes and anchors
are in input pixels, (width, height).
"""

import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from utils.errors import InputError
from utils.files import atomic_path, read_text, write_text
from utils.text import align_columns

MATCH_RATIO = 2.0  # the loss trains an anchor on a box when no side differs by this factor or more
RESTARTS = 10
DECIMALS = 2  # of an anchor in a file

_LARGEST = 1e7  # pixels; in hundredths this still fits 32 bits
_BLOCK = 64  # boxes; 64 to 128 are fastest at the size of COCO
_PAIRS = 1 << 19  # of boxes and anchors compared at once, so that memory does not grow with the data set

_BLANKS = r"[^\S\r\n]*"
# Groups: what stays before the value, the value with the blanks after it, the comment.
_ENTRY = re.compile(rf"((?:\A\ufeff?|(?<=[\r\n])){_BLANKS}anchors{_BLANKS}={_BLANKS})([^#\r\n]*)(#[^\r\n]*)?")


class Fit(NamedTuple):
    """How well anchors fit boxes."""

    average_iou: float  # mean over the boxes of the IoU with the anchor of highest IoU
    recall: float  # share of the boxes that at least one anchor matches in the loss
    boxes: tuple[int, ...]  # for each anchor, the boxes whose best it is


def box_sizes(labels, width, height):
    """Widths and heights of label boxes in input pixels.

    Args:
        labels: list of [n, 5] arrays, (class, cx, cy, w, h), normalised; one an image.
        width, height: input size of the network in pixels.
    Returns:
        [boxes, 2], float64.
    """
    if not labels:
        return np.empty((0, 2))
    return np.concatenate(labels)[:, 3:5] * np.array([width, height], dtype=np.float64)


def shape_iou(sizes, anchors):
    """IoU of boxes and anchors that share a corner.

    Args:
        sizes: [n, 2]; anchors: [k, 2].
    Returns:
        [n, k], 0…1.
    """
    # Computed as [k, n]: numpy is fast when the long axis is the contiguous one.
    return _iou(*sizes.T, *anchors.T[..., None]).T


def matches(sizes, anchors, ratio=MATCH_RATIO):
    """Which anchors the loss can train on which boxes: max(w/aw, aw/w, h/ah, ah/h) < ratio.

    Args:
        sizes: [n, 2]; anchors: [k, 2].
    Returns:
        [n, k], bool.
    """
    factors = sizes[:, None] / anchors
    return np.maximum(factors, 1 / factors).max(2) < ratio


def fit(sizes, anchors):
    """How well `anchors` [k, 2] fit boxes of `sizes` [n, 2].

    Raises:
        InputError: no boxes, or sizes that are not above 0 or are absurdly large.
    """
    sizes = _checked(sizes)
    anchors = np.asarray(anchors, dtype=np.float64).reshape(-1, 2)
    total_iou, matched, boxes = 0.0, 0, np.zeros(len(anchors), dtype=np.int64)
    for part in (sizes[chunk] for chunk in _chunks(len(sizes), len(anchors))):
        iou = shape_iou(part, anchors)
        total_iou += iou.max(1).sum()
        matched += int(matches(part, anchors).any(1).sum())
        boxes += np.bincount(iou.argmax(1), minlength=len(anchors))
    return Fit(float(total_iou / len(sizes)), matched / len(sizes), tuple(boxes.tolist()))


def fit_report(anchors, fitted):
    """A few lines about anchors [k, 2] and their Fit, to be printed."""
    rows = [("width", "height", "boxes")]
    rows += [(f"{w:.2f}", f"{h:.2f}", str(boxes)) for (w, h), boxes in zip(anchors, fitted.boxes, strict=True)]
    return "\n".join(
        (
            f"average IoU {fitted.average_iou:.6f}",
            f"best possible recall {fitted.recall:.2%} (boxes within a factor of {MATCH_RATIO:g} of an anchor)",
            align_columns(rows, left=()),
        )
    )


def cluster(sizes, clusters, seed=0, restarts=RESTARTS):
    """Anchors for boxes: k-means with the distance 1 − IoU, the best of several starts.

    Lloyd's iterations from k-means++ starts (Arthur and Vassilvitskii 2007), each until the assignments
    stop changing. A cluster's centre is the geometric mean of its boxes: IoU and the loss's matching see
    ratios of sides, and the arithmetic mean lets a few large boxes pull an anchor away from the many.

    Sizes count to a hundredth of a pixel, as anchors are written. Every anchor is the best one of at least
    one box.

    Args:
        sizes: [n, 2], widths and heights in pixels.
        clusters: number of anchors.
        seed: of the random starts; the same seed gives the same anchors.
        restarts: number of starts.
    Returns:
        [clusters, 2], sorted by width, two decimals.
    Raises:
        InputError: no boxes, fewer distinct sizes than clusters, sizes that are not above 0 or are absurdly large.
    """
    distinct, counts = distinct_sizes(sizes)
    if len(distinct) < clusters:
        raise InputError(
            f"expected boxes of at least {clusters} different sizes for {clusters} clusters, "
            f"got {len(distinct)} (boxes in all: {counts.sum()})"
        )
    blocks = Blocks(distinct, counts)
    random = np.random.default_rng(seed)
    best, best_iou = None, -1.0
    for _ in tqdm(range(restarts), desc=f"{clusters} clusters", unit="start", leave=False, disable=None):
        centres, _ = lloyd(blocks, start_centres(distinct, counts, clusters, random))
        # Rounding can leave an anchor without a box when clusters lie within hundredths of a pixel.
        anchors, _ = _without_empty(blocks, _to_grid(centres))
        average_iou = fit(sizes, anchors).average_iou
        if average_iou > best_iou:
            best, best_iou = anchors, average_iou
    return best[np.lexsort((best[:, 1], best[:, 0]))]


def distinct_sizes(sizes):
    """The different sizes, to a hundredth of a pixel, in order of width, and how many boxes have each.

    Returns:
        ([m, 2] float64, [m] int64).
    Raises:
        InputError: as in `cluster`.
    """
    steps = np.rint(_to_grid(_checked(sizes)) * 10**DECIMALS).astype(np.int64)
    # One integer a size: sorting those is many times faster than sorting rows.
    keys, counts = np.unique(steps[:, 0] << 32 | steps[:, 1], return_counts=True)
    return np.stack((keys >> 32, keys & 0xFFFFFFFF), 1) / 10**DECIMALS, counts


def start_centres(sizes, counts, clusters, random):
    """k-means++ start: each next centre is a box drawn with probability ∝ (1 − IoU with the nearest centre)².

    A size that is a centre has probability 0, so the centres differ.
    """
    weights = counts.astype(np.float64)
    distance = np.ones(len(sizes))
    centres = []
    for _ in range(clusters):
        cumulative = np.cumsum(weights * distance**2)
        # side="right" never lands on a size of weight 0: its step of the cumulative sum has no length.
        chosen = np.searchsorted(cumulative, random.random() * cumulative[-1], side="right")
        centres.append(sizes[chosen])
        distance = np.minimum(distance, 1 - shape_iou(sizes, sizes[chosen : chosen + 1])[:, 0])
    return np.array(centres)


def lloyd(blocks, centres):
    """Lloyd's iterations: assign every box to its nearest centre, move the centres, until nothing changes.

    Args:
        blocks: Blocks of the boxes.
        centres: [k, 2], the start.
    Returns:
        ([k, 2] centres, number of iterations).
    """
    seen = set()
    # Moving a centre to a mean is not sure to lower 1 − IoU, so the iterations could end in a cycle
    # instead of at rest; centres that were there before show both.
    while centres.tobytes() not in seen:
        seen.add(centres.tobytes())
        centres, totals = _without_empty(blocks, centres)
        centres = np.exp(totals[:, 1:] / totals[:, :1])
    return centres, len(seen)


class Blocks:
    """Boxes in blocks of similar shape, so that most are assigned to a centre a block at a time.

    As a box's width grows, its IoU with a centre rises up to the centre's width and falls beyond, and so with
    the height. Over the sizes of a block it is therefore lowest at a corner of their range, and highest where
    the range comes nearest to the centre. When the lowest with one centre is above the highest with any other,
    all of the block belongs to that centre. Only boxes of the other blocks are compared one by one; the result
    is the same.
    """

    def __init__(self, sizes, counts):
        """`sizes` [n, 2] in order of width, `counts` [n] boxes of each size."""
        # Slabs of similar width, cut into blocks of similar height. The last slab is filled with copies
        # of the last size that count as no box.
        blocks = math.ceil(len(sizes) / _BLOCK)
        slabs = math.ceil(math.sqrt(blocks))
        slab_size = math.ceil(blocks / slabs) * _BLOCK
        missing = slabs * slab_size - len(sizes)
        sizes = np.pad(sizes, ((0, missing), (0, 0)), mode="edge").reshape(slabs, slab_size, 2)
        counts = np.pad(counts, (0, missing)).reshape(slabs, slab_size)
        order = sizes[..., 1].argsort(axis=1, kind="stable")
        self.sizes = np.take_along_axis(sizes, order[..., None], axis=1).reshape(-1, _BLOCK, 2)
        counts = np.take_along_axis(counts, order, axis=1).reshape(-1, _BLOCK, 1)

        # What the centres are made of: boxes, and sums of log width and log height.
        logs = np.log(self.sizes)
        self.terms = np.concatenate((counts, counts * logs), 2)  # [B, _BLOCK, 3]
        self.sums = self.terms.sum(1)
        self.middles = np.exp(logs.mean(1))
        self.least, self.most = self.sizes.min(1), self.sizes.max(1)
        (left, low), (right, high) = self.least.T, self.most.T
        self.corners = np.array(((left, left, right, right), (low, high, low, high)))  # [2, 4, B]

    def assign(self, centres):
        """Sums over the boxes nearest to each centre: boxes, log width, log height; [k, 3]."""
        nearest = shape_iou(self.middles, centres).argmax(1)
        lowest = _iou(*self.corners, *centres[nearest].T).min(0)
        sides = centres.T[..., None]
        highest = _iou(*sides.clip(self.least.T[:, None], self.most.T[:, None]), *sides)  # [k, B]
        highest[nearest, np.arange(len(nearest))] = -np.inf
        # The small number keeps rounding errors from making a tie look decided.
        decided = lowest > highest.max(0) + 1e-9

        totals = _sum_by(nearest[decided], self.sums[decided], len(centres))
        sizes, terms = self.sizes[~decided].reshape(-1, 2), self.terms[~decided].reshape(-1, 3)
        for chunk in _chunks(len(sizes), len(centres)):
            totals += _sum_by(shape_iou(sizes[chunk], centres).argmax(1), terms[chunk], len(centres))
        return totals

    def farthest(self, centres):
        """The box size, [2], whose IoU with its nearest centre is lowest."""
        sizes = self.sizes.reshape(-1, 2)
        parts = [shape_iou(sizes[chunk], centres).max(1) for chunk in _chunks(len(sizes), len(centres))]
        return sizes[np.concatenate(parts).argmin()]


def _without_empty(blocks, centres):
    """Assign, moving each centre that gets no box onto the box that is farthest from all centres.

    A centre that lies on a box always gets that one, so this ends after at most k moves.

    Returns:
        ([k, 2] centres, [k, 3] totals as from `Blocks.assign`).
    """
    totals = blocks.assign(centres)
    while not totals[:, 0].all():
        centres = centres.copy()
        centres[totals[:, 0].argmin()] = blocks.farthest(centres)
        totals = blocks.assign(centres)
    return centres, totals


def _iou(width, height, other_width, other_height):
    intersection = np.minimum(width, other_width) * np.minimum(height, other_height)
    return intersection / (width * height + other_width * other_height - intersection)


def _chunks(boxes, anchors):
    """Slices of so many boxes that they make _PAIRS with the anchors."""
    size = max(1, _PAIRS // anchors)
    return [slice(start, start + size) for start in range(0, boxes, size)]


def _sum_by(index, terms, length):
    """Rows of `terms` [n, 3] summed by `index` [n] into [length, 3]."""
    columns = [np.bincount(index, weights=column, minlength=length) for column in terms.T]
    return np.stack(columns, 1).astype(np.float64)  # bincount of nothing is of integers


def _to_grid(sizes):
    """To the decimals of a file; what would round to 0 becomes the smallest size above it."""
    return np.maximum(np.round(sizes, DECIMALS), 10**-DECIMALS)


def _checked(sizes):
    sizes = np.asarray(sizes, dtype=np.float64).reshape(-1, 2)
    if not len(sizes):
        raise InputError("expected boxes, got none")
    wrong = ~((sizes > 0) & (sizes < _LARGEST)).all(1)  # not-a-number too
    if wrong.any():
        number = int(wrong.argmax())
        width, height = sizes[number]
        raise InputError(
            f"box {number}: expected a width and height above 0 and below {_LARGEST:g} px, got {width:g} x {height:g}"
        )
    return sizes


def format_anchors(anchors):
    """[k, 2] anchors as `12.64,19.39, 37.88,51.48`, the form of the .data file."""
    return ", ".join(f"{width:.2f},{height:.2f}" for width, height in anchors)


def write_anchor_file(path, anchors, average_iou):
    """Write the original's file: the anchors on line 1, their average IoU with the boxes on line 2."""
    write_text(path, f"{format_anchors(anchors)}\n{average_iou:.6f}\n")


def replace_anchors(path, anchors):
    """Put anchors [k, 2] into a .data file; all else in it stays as it was, byte by byte.

    A comment behind the anchors stays in its column where there is room. The file as it was is kept
    beside it as `NAME.bak`, or `NAME.bak-2`, … where there is one already.

    Returns:
        Path of the backup.
    Raises:
        InputError: no anchors entry, or the file cannot be read or the folder written to.
    """
    # A link would be replaced by a file; what it points to is what is meant.
    path = Path(path).resolve() if Path(path).is_symlink() else Path(path)
    read_text(path)  # for its errors; the line ends have to be seen as they are
    before = path.read_bytes()
    after, found = _ENTRY.subn(lambda entry: _entry(entry, format_anchors(anchors)), before.decode(), count=1)
    if not found:
        raise InputError(f"{path}: expected an entry 'anchors=…', found none")
    backup = _free_name(path)
    for target, content in ((backup, before), (path, after.encode())):
        with atomic_path(target) as temporary:
            temporary.write_bytes(content)
    return backup


def _entry(entry, text):
    start, value, comment = entry.groups()
    if comment is None:
        return start + text + value[len(value.rstrip()) :]
    return start + text.ljust(max(len(value), len(text) + 1)) + comment


def _free_name(path):
    number = 1
    while True:
        backup = path.with_name(f"{path.name}.bak" + (f"-{number}" if number > 1 else ""))
        if not backup.exists():
            return backup
        number += 1
