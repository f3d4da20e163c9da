"""How good detections are: the original's figures, and which class is taken for which. COCO's: utils.evaluation.coco.

All functions take the detections of a whole set, collected once at a low confidence:

    detections: list of N arrays or CPU tensors [n, 6], (x1, y1, x2, y2, score, class), in pixels of the network's
        frame, best first.
    labels: list of N arrays [m, 5], (class, cx, cy, w, h), as fractions of the image.
    frame_size: (width, height) of the network's input in pixels.

A figure that is not defined, for example the AP of a class without labels, is NaN.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torchvision.ops import box_iou

from utils.boxes import labels_to_frame

OPERATING_CONF = 0.3  # what test.py shows by default, and where the original took precision, recall and F1
MATCH_IOU = 0.5


@dataclass(frozen=True)
class OriginalMetrics:
    """Means over the classes that occur in the labels; NaN when there are no labels."""

    precision: float
    recall: float
    ap: float
    f1: float


def original_metrics(detections, labels, frame_size, conf=OPERATING_CONF, iou=MATCH_IOU):
    """The figures by the original's own definition, in which the published AP of 24.10 % was measured.

    It differs from the common definitions: boxes count pixels inclusively; a detection is compared with the labels of
    every class once its own class occurs in the image; only the label it overlaps most can be hit.
    AP is computed from all detections, the other three from those that score above `conf`.

    Args:
        detections, labels, frame_size: see the top of this file.
        conf: score that a detection must exceed for precision, recall and F1.
        iou: a hit overlaps at least this much.
    Returns:
        OriginalMetrics.
    """
    if not detections:
        return OriginalMetrics(*[float("nan")] * 4)
    hits = np.concatenate(
        [_original_hits(torch.as_tensor(d), b, frame_size, iou) for d, b in zip(detections, labels, strict=True)]
    )
    scores, classes = np.concatenate([np.asarray(d)[:, 4:] for d in detections]).T
    order = np.argsort(-scores, kind="stable")
    hits, scores, classes = hits[order], scores[order], classes[order]
    rows = [
        _class_figures(hits[classes == number], scores[classes == number], count, conf)
        for number, count in zip(*np.unique(np.concatenate(labels)[:, 0], return_counts=True), strict=True)
    ]
    if not rows:
        return OriginalMetrics(*[float("nan")] * 4)
    return OriginalMetrics(*np.mean(rows, 0).tolist())


def _original_hits(detections, labels, frame_size, iou):
    """Which detections of an image are true positives: bool [n]."""
    hits = np.zeros(len(detections), bool)
    if not len(labels):
        return hits
    labels = torch.as_tensor(labels)
    inclusive = torch.tensor([0, 0, 1, 1])
    boxes = labels_to_frame(labels[:, 1:], frame_size)
    overlap, nearest = box_iou(detections[:, :4] + inclusive, boxes + inclusive).max(1)
    candidates = torch.nonzero((overlap >= iou) & torch.isin(detections[:, 5], labels[:, 0])).flatten()
    # The best-scored candidate takes the label; the original stops once all are taken, which changes nothing.
    _, first = np.unique(nearest[candidates], return_index=True)
    hits[candidates[first]] = True
    return hits


def _class_figures(hits, scores, label_count, conf):
    """(precision, recall, AP, F1) of one class from its detections, best first."""
    true = hits.cumsum()
    precision = true / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    ap = envelope[hits].sum() / label_count  # recall grows by 1 / label_count at each hit
    shown = np.count_nonzero(scores > conf)
    if not shown:
        return 0.0, 0.0, ap, 0.0
    found = true[shown - 1]
    return found / shown, found / label_count, ap, 2 * found / (shown + label_count)
