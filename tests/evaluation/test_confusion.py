"""utils.evaluation.confusion: hand-made cases and properties."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.measured import FRAME, detections_of, labels_of, measured_sets
from utils.evaluation.confusion import confusion_matrix, worst_images

BOX, FAR_BOX = (10, 10, 60, 60), (200, 200, 300, 260)


@settings(max_examples=50, deadline=None)
@given(measured_sets())
def test_the_frame_shape_does_not_matter(measured):
    detections, labels = measured
    wide = [rows * np.array([2, 1, 2, 1, 1, 1], np.float32) for rows in detections]
    expected = confusion_matrix(detections, labels, FRAME, 3)
    assert np.array_equal(confusion_matrix(wide, labels, (2 * FRAME[0], FRAME[1]), 3), expected)


@settings(max_examples=50, deadline=None)
@given(measured_sets(), st.sampled_from([0.10025, 0.30025, 0.60025]))
def test_each_label_and_each_detection_above_the_threshold_is_counted_once(measured, conf):
    detections, labels = measured
    matrix = confusion_matrix(detections, labels, FRAME, 3, conf=conf)
    label_classes = np.concatenate(labels)[:, 0].astype(int)
    rows = np.concatenate(detections)
    detection_classes = rows[rows[:, 4] > conf][:, 5].astype(int)
    assert np.array_equal(matrix[:3].sum(1), np.bincount(label_classes, minlength=3))
    assert np.array_equal(matrix[:, :3].sum(0), np.bincount(detection_classes, minlength=3))
    assert matrix[3, 3] == 0


def test_hit_wrong_class_miss_and_false_positive():
    labels = [labels_of((*BOX, 0), (*FAR_BOX, 1), (100, 10, 140, 50, 1))]
    rows = [(*BOX, 0.9, 0), (*FAR_BOX, 0.8, 2), (10, 300, 40, 340, 0.7, 0), (100, 10, 140, 50, 0.2, 1)]
    expected = np.zeros((4, 4), int)
    expected[0, 0] = expected[1, 2] = expected[1, 3] = expected[3, 0] = 1
    assert np.array_equal(confusion_matrix([detections_of(*rows)], labels, FRAME, 3), expected)


def test_a_label_matches_the_detection_with_the_highest_iou():
    labels = [labels_of((*BOX, 0))]
    shifted = (14, 10, 64, 60)
    detections = [detections_of((*shifted, 0.9, 1), (*BOX, 0.5, 0))]
    matrix = confusion_matrix(detections, labels, FRAME, 2)
    assert matrix[0].tolist() == [1, 0, 0]
    assert matrix[2].tolist() == [0, 1, 0]


def test_no_labels_and_no_detections():
    assert not confusion_matrix([detections_of()], [labels_of()], FRAME, 2).any()


def test_perfect_detections_are_on_the_diagonal(released):
    labels = released.index.labels
    boxes = [np.hstack((b[:, 1:3] - b[:, 3:] / 2, b[:, 1:3] + b[:, 3:] / 2)) * 352 for b in labels]
    detections = [
        np.column_stack((box, np.full(len(b), 0.9), b[:, 0])).astype(np.float32)
        for box, b in zip(boxes, labels, strict=True)
    ]
    matrix = confusion_matrix(detections, labels, FRAME, 80)
    assert np.trace(matrix) == matrix.sum() == 898


def test_the_worst_images_come_first_and_correct_ones_are_left_out():
    """One hit, one miss, one wrong class, one false positive, one detection below the threshold."""
    labels = np.array([[0, 0.2, 0.2, 0.2, 0.2], [0, 0.5, 0.5, 0.2, 0.2], [1, 0.8, 0.8, 0.2, 0.2]], np.float32)
    found = np.array(
        [[10, 10, 30, 30, 0.9, 0], [70, 70, 90, 90, 0.8, 0], [0, 60, 20, 80, 0.7, 1], [60, 0, 80, 20, 0.1, 1]],
        np.float32,
    )
    nothing = np.zeros((0, 6), np.float32)
    detections, per_image = [nothing, nothing, found, nothing], [labels[:0], labels[:2], labels, labels]
    assert worst_images(detections, per_image, (100, 100), 2) == [2, 3, 1]
