"""Confusion matrix: which class is detected as which. Arguments are as in `utils.evaluation.original`."""

import numpy as np
import torch
from torchvision.ops import box_iou

from utils.boxes import labels_to_frame
from utils.evaluation.original import MATCH_IOU, OPERATING_CONF


def confusion_matrix(detections, labels, frame_size, classes, conf=OPERATING_CONF, iou=MATCH_IOU):
    """How often an object of one class is detected as another, or not at all, or where there is none.

    In each image a label and a detection of whatever classes are joined, pairs of highest IoU first.

    Args:
        detections, labels, frame_size: see the top of this file.
        classes: number of classes C.
        conf: score that a detection must exceed.
        iou: a pair overlaps at least this much.
    Returns:
        [C + 1, C + 1] int; row = class of the label, column = class of the detection. The last row counts detections
        without a label, the last column labels without a detection.
    """
    matrix = np.zeros((classes + 1, classes + 1), int)
    for rows, boxes in zip(detections, labels, strict=True):
        rows = torch.as_tensor(rows)
        rows, boxes = rows[rows[:, 4] > conf], torch.as_tensor(boxes)
        overlap = box_iou(labels_to_frame(boxes[:, 1:], frame_size), rows[:, :4])
        pairs = _join(overlap.numpy(), iou)
        # A label or detection that is in no pair has the background, class number C, as its partner.
        found, true = np.full(len(boxes), classes), np.full(len(rows), classes)
        label_classes, detection_classes = boxes[:, 0].int().numpy(), rows[:, 5].int().numpy()
        for label, detection in pairs:
            found[label], true[detection] = detection_classes[detection], label_classes[label]
        np.add.at(matrix, (label_classes, found), 1)
        np.add.at(matrix, (true[true == classes], detection_classes[true == classes]), 1)
    return matrix


def count_mistakes(detections, labels, frame_size, classes):
    """Labels that are missed, or taken for another class, and detections without a label, an image.

    Args:
        as for `confusion_matrix`.
    Returns:
        [images] int.
    """
    matrices = [
        confusion_matrix([rows], [boxes], frame_size, classes) for rows, boxes in zip(detections, labels, strict=True)
    ]
    return np.array([matrix.sum() - matrix.trace() for matrix in matrices], int)


def _join(overlap, least):
    """Pairs (row, column) by descending overlap, each row and column at most once."""
    rows, columns = np.nonzero(overlap >= least)
    order = np.argsort(-overlap[rows, columns], kind="stable")
    pairs, taken_columns = {}, set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in pairs and column not in taken_columns:
            pairs[row] = column
            taken_columns.add(column)
    return pairs.items()
