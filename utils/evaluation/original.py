"""Precision, recall, AP and F1 as Yolo-FastestV2's original repository defines them.

Functions here and in `utils.evaluation.confusion` take the detections of a whole data set, collected at a low score
threshold:

    detections: [n, 6] array per image, (x1, y1, x2, y2, score, class), in network input pixels, sorted by
        descending score.
    labels: [m, 5] array per image, (class, cx, cy, w, h), as fractions of the image.
    frame_size: (width, height) of the network input in pixels.

An undefined metric, for example the AP of a data set without labels, is NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from utils.boxes import labels_to_frame, xyxy_iou_matrix

OPERATING_CONF = 0.3  # the score threshold at which the original computes precision, recall and F1
MATCH_IOU = 0.5  # lowest IoU of a match


@dataclass(frozen=True)
class OriginalMetrics:
    """Means over the classes that have labels; NaN if there are no labels."""

    precision: float
    recall: float
    ap: float
    f1: float


def original_metrics(
    detections: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    frame_size: tuple[int, int],
    conf: float = OPERATING_CONF,
) -> OriginalMetrics:
    """Compute the metrics by the original's definition, as in the published AP of 24.10 %.

    It differs from the common definition in three points: the width of a box is x2 - x1 + 1; a detection is compared
    with the labels of all classes if its own class occurs in the image; it can only match the label that it overlaps
    most. AP uses all detections. Precision, recall and F1 use those that score above `conf`.
    """
    undefined = OriginalMetrics(*[float("nan")] * 4)
    if not sum(map(len, labels)):
        return undefined
    pairs = zip(detections, labels, strict=True)
    hits = np.concatenate([_original_hits(rows, boxes, frame_size) for rows, boxes in pairs])
    scores, classes = np.concatenate([rows[:, 4:] for rows in detections]).T
    order = np.argsort(-scores, kind="stable")
    hits, scores, classes = hits[order], scores[order], classes[order]
    label_counts = zip(*np.unique(np.concatenate(labels)[:, 0], return_counts=True), strict=True)
    per_class = [
        _class_metrics(hits[classes == class_id], scores[classes == class_id], label_count, conf)
        for class_id, label_count in label_counts
    ]
    return OriginalMetrics(*np.mean(per_class, 0).tolist())


def _original_hits(detections: np.ndarray, labels: np.ndarray, frame_size: tuple[int, int]) -> np.ndarray:
    """Return which detections of an image are true positives: [n] bool."""
    hits = np.zeros(len(detections), bool)
    if not len(labels):
        return hits
    inclusive = np.float32([0, 0, 1, 1])
    overlaps = xyxy_iou_matrix(detections[:, :4] + inclusive, labels_to_frame(labels[:, 1:], frame_size) + inclusive)
    nearest, overlap = overlaps.argmax(1), overlaps.max(1)
    candidates = np.flatnonzero((overlap >= MATCH_IOU) & np.isin(detections[:, 5], labels[:, 0]))
    # Of the candidates for a label, the first one has the highest score.
    _, first = np.unique(nearest[candidates], return_index=True)
    hits[candidates[first]] = True
    return hits


def _class_metrics(
    hits: np.ndarray, scores: np.ndarray, label_count: int, conf: float
) -> tuple[float, float, float, float]:
    """(precision, recall, AP, F1) of one class from its detections, sorted by descending score."""
    true_positives = hits.cumsum()
    precision = true_positives / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    ap = envelope[hits].sum() / label_count  # recall increases by 1 / label_count at each hit
    above = np.count_nonzero(scores > conf)
    if not above:
        return 0.0, 0.0, ap, 0.0
    found = true_positives[above - 1]
    return found / above, found / label_count, ap, 2 * found / (above + label_count)
