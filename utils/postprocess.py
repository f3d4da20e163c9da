"""From the network's outputs to detections: selection, decoding, non-maximum suppression (NMS). Without PyTorch.

Only the few predictions that can become detections are decoded. `utils.export.graph` decodes all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from model import STRIDES, DetectorOutput, ScaleOutput
from utils.boxes import decode_centers, decode_sizes
from utils.config import DEFAULT_CONF, DEFAULT_IOU, MAX_DETECTIONS

Anchors = Sequence[Sequence[tuple[float, float]]]  # [2][A][2] widths and heights in input pixels, stride 16 first


@dataclass(frozen=True)
class Thresholds:
    """Which detections are kept."""

    conf: float = DEFAULT_CONF  # detections have a higher score
    iou: float = DEFAULT_IOU  # if two boxes of a class have a higher IoU, only the one with the higher score is kept
    max_det: int = MAX_DETECTIONS  # at most this many detections per image, the best ones
    classes: Sequence[int] | None = None  # class ids; None: all


class Candidates(NamedTuple):
    """The M predictions of a batch whose score is high enough, before NMS."""

    images: np.ndarray  # [M] index of the image in the batch
    boxes: np.ndarray  # [M, 4] float32 (x1, y1, x2, y2) in input pixels
    scores: np.ndarray  # [M] float32
    class_ids: np.ndarray  # [M]


def find_candidates(
    output: DetectorOutput, anchors: Anchors, thresholds: Thresholds, activated: bool = False
) -> Candidates:
    """Find the predictions of the selected classes whose score exceeds `thresholds.conf`.

    A score is objectness times a probability, so it cannot exceed the objectness. Cells whose objectness is too low are
    skipped; these are more than nine in ten. The others are processed in NumPy, because for many small operations
    PyTorch's overhead takes longer than the computation.

    Args:
        output: logits, or probabilities if `activated`; arrays, or tensors of any float type on any device.
    """
    limit = thresholds.conf if activated else _logit(thresholds.conf)
    cells = [_cells_above(scale_index, scale, limit) for scale_index, scale in enumerate(output)]
    cells = _Cells(*map(np.concatenate, zip(*cells, strict=True)))
    class_ids = cells.classes.argmax(1)
    best = cells.classes[np.arange(len(class_ids)), class_ids][:, None]
    objectness = cells.objectness
    if not activated:
        best = 1 / np.exp(cells.classes - best).sum(1, keepdims=True)  # softmax of the largest value
        objectness = sigmoid(objectness)
    scores = objectness * best  # [m, A]
    selected = scores > thresholds.conf
    if thresholds.classes is not None:
        selected &= np.isin(class_ids, thresholds.classes)[:, None]
    cell_index, anchor_index = np.nonzero(selected)
    # From here on each coordinate is one row: NumPy is slow with many rows of two or four values.
    boxes = np.ascontiguousarray(cells.boxes.reshape(*scores.shape, 4)[cell_index, anchor_index].T)
    if not activated:
        boxes = sigmoid(boxes)
    scales, positions = cells.scales[cell_index], np.stack((cells.columns, cells.rows))[:, cell_index]
    centers = decode_centers(boxes[:2], positions, np.array(STRIDES, np.float32)[scales])
    halves = decode_sizes(boxes[2:], np.asarray(anchors, np.float32)[scales, anchor_index].T) / 2
    corners = np.concatenate((centers - halves, centers + halves))
    return Candidates(cells.images[cell_index], corners.T, scores[selected], class_ids[cell_index])


class _Cells(NamedTuple):
    """The outputs of the m cells of a batch in which the objectness of at least one anchor is high enough."""

    images: np.ndarray  # [m] index of the image in the batch
    scales: np.ndarray  # [m] index into STRIDES
    columns: np.ndarray  # [m] float32
    rows: np.ndarray  # [m] float32
    objectness: np.ndarray  # [m, A]
    boxes: np.ndarray  # [m, 4·A]
    classes: np.ndarray  # [m, C]


def _cells_above(scale_index: int, scale: ScaleOutput, limit: float) -> _Cells:
    """Select the cells of one scale whose best objectness exceeds the limit."""
    _, _, height, width = scale.objectness.shape
    on_host = isinstance(scale.objectness, np.ndarray) or scale.objectness.device.type == "cpu"
    select = _select_on_host if on_host else _select_on_device
    cells, *values = select(scale, limit)
    images, positions = np.divmod(cells, height * width)
    rows, columns = np.divmod(positions.astype(np.float32), width)
    return _Cells(images, np.full(len(cells), scale_index), columns, rows, *values)


def _select_on_host(scale: ScaleOutput, limit: float) -> tuple[np.ndarray, ...]:
    """Return the [m] selected cells of a batch, in order, and their objectness, boxes and classes, float32 [m, …]."""
    arrays = (np.asarray(values, np.float32) for values in (scale.objectness, scale.boxes, scale.classes))
    objectness, boxes, classes = (array.transpose(0, 2, 3, 1).reshape(-1, array.shape[1]) for array in arrays)
    cells = np.flatnonzero(objectness > limit) // objectness.shape[1]
    cells = cells[np.flatnonzero(np.diff(cells, prepend=-1))]  # each cell once
    return cells, objectness[cells], boxes[cells], classes[cells]


def _select_on_device(scale: ScaleOutput, limit: float) -> tuple[np.ndarray, ...]:
    """Like `_select_on_host`, for a GPU: only the selected cells are copied to the host."""
    cells = (scale.objectness.amax(1).flatten().float() > limit).nonzero().squeeze(1)
    values = (
        tensor.permute(0, 2, 3, 1).flatten(0, 2).index_select(0, cells).float()
        for tensor in (scale.objectness, scale.boxes, scale.classes)
    )
    return tuple(tensor.cpu().numpy() for tensor in (cells, *values))


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Compute 1 / (1 + e^−x)."""
    with np.errstate(over="ignore"):  # e^x overflows to infinity, and the result is 0
        return 1 / (1 + np.exp(-values))


def _logit(probability: float) -> float:
    """Compute the logit of a probability, minus a margin for rounding errors."""
    if not 0 < probability < 1:
        return -math.inf if probability <= 0 else math.inf
    return math.log(probability / (1 - probability)) - 1e-3


def suppress(candidates: Candidates, count: int, thresholds: Thresholds) -> list[np.ndarray]:
    """Apply NMS within each class of each image.

    Args:
        count: images in the batch, N.

    Returns:
        N arrays [n, 6] float32 (x1, y1, x2, y2, score, class id) in input pixels, best first.
    """
    order = candidates.images.argsort(kind="stable")
    images, boxes, scores, class_ids = (values[order] for values in candidates)
    rows = np.column_stack((boxes, scores, class_ids)).astype(np.float32)
    if not len(rows):
        return [rows] * count
    # The boxes of each class are shifted so far that boxes of different classes never overlap. float64 keeps the
    # coordinates exact.
    corners = boxes[:, :2] + class_ids[:, None] * (float(boxes.max()) - float(boxes.min()) + 1)
    shifted = np.concatenate((corners, boxes[:, 2:] - boxes[:, :2]), 1, dtype=np.float64)  # x, y, width, height
    ends = np.bincount(images, minlength=count).cumsum()[:-1]
    parts = (np.split(values, ends) for values in (rows, shifted, scores))
    iou, max_det = thresholds.iou, thresholds.max_det
    return [rows[_nms(boxes, scores, iou)[:max_det]] for rows, boxes, scores in zip(*parts, strict=True)]


def _nms(boxes: np.ndarray, scores: np.ndarray, iou: float) -> np.ndarray:
    """Return the indices of the [n, 4] boxes (x, y, width, height) that are kept, best first."""
    # Boxes without area overlap nothing, but OpenCV treats them as if they all overlapped each other. OpenCV returns an
    # empty tuple if there are no boxes. It drops boxes with a score of 0, which no detection has.
    solid = (boxes[:, 2:] > 0).all(1)
    kept = np.array(cv2.dnn.NMSBoxes(boxes[solid], scores[solid], 0.0, iou), int)
    kept = np.sort(np.concatenate((np.flatnonzero(solid)[kept], np.flatnonzero(~solid))))
    return kept[np.argsort(-scores[kept], kind="stable")]


def detect(
    output: DetectorOutput, anchors: Anchors, thresholds: Thresholds, activated: bool = False
) -> list[np.ndarray]:
    """Convert the network's outputs to detections; see `find_candidates` and `suppress`."""
    candidates = find_candidates(output, anchors, thresholds, activated)
    return suppress(candidates, len(output[0].boxes), thresholds)
