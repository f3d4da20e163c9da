"""Confusion matrix: which class is detected as which. The arguments are those of `utils.evaluation.original`."""

from collections.abc import Sequence

import numpy as np

from utils.boxes import labels_to_frame, xyxy_iou_matrix
from utils.evaluation.original import MATCH_IOU, OPERATING_CONF


def confusion_matrix(
    detections: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    frame_size: tuple[int, int],
    classes: int,
    conf: float = OPERATING_CONF,
) -> np.ndarray:
    """Count which class each label is detected as.

    In each image, labels and detections of any class are matched greedily by descending IoU.

    Args:
        detections, labels, frame_size: see the docstring of `utils.evaluation.original`.
        classes: number of classes C.
        conf: score that a detection must exceed.

    Returns:
        [C + 1, C + 1] counts; row = class of the label, column = class of the detection. The last row counts false
        positives, the last column false negatives.
    """
    matrix = np.zeros((classes + 1, classes + 1), int)
    for rows, boxes in zip(detections, labels, strict=True):
        rows = rows[rows[:, 4] > conf]
        overlap = xyxy_iou_matrix(labels_to_frame(boxes[:, 1:], frame_size), rows[:, :4])
        # Unmatched labels and detections are paired with the background, whose class id is C.
        detected_as, labeled_as = np.full(len(boxes), classes), np.full(len(rows), classes)
        label_classes, detection_classes = boxes[:, 0].astype(int), rows[:, 5].astype(int)
        for label, detection in match_by_iou(overlap, MATCH_IOU).items():
            detected_as[label], labeled_as[detection] = detection_classes[detection], label_classes[label]
        np.add.at(matrix, (label_classes, detected_as), 1)
        np.add.at(matrix[classes], detection_classes[labeled_as == classes], 1)
    return matrix


def worst_images(
    detections: Sequence[np.ndarray], labels: Sequence[np.ndarray], frame_size: tuple[int, int], classes: int
) -> list[int]:
    """Return the indices of the images with mistakes, those with the most mistakes first.

    The mistakes are missed labels, labels detected as another class, and false positives.
    """
    matrices = [
        confusion_matrix([rows], [boxes], frame_size, classes) for rows, boxes in zip(detections, labels, strict=True)
    ]
    mistakes = np.array([matrix.sum() - matrix.trace() for matrix in matrices], int)
    order = np.argsort(-mistakes, kind="stable")
    return order[mistakes[order] > 0].tolist()


def match_by_iou(overlap: np.ndarray, lowest: float) -> dict[int, int]:
    """Match rows and columns with an IoU of at least `lowest`: {row: column}, the highest IoU first, each only once."""
    rows, columns = np.nonzero(overlap >= lowest)
    order = np.argsort(-overlap[rows, columns], kind="stable")
    pairs = {}
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in pairs and column not in pairs.values():
            pairs[row] = column
    return pairs
