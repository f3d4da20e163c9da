"""The original's figures and the confusion matrix: golden numbers, hand-made cases, a slow reference, properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.measured import FRAME, detections_of, labels_of, measured_sets
from utils.evaluation.confusion import confusion_matrix, count_mistakes
from utils.evaluation.original import original_metrics

BOX, FAR_BOX = (10, 10, 60, 60), (200, 200, 300, 260)


def as_tuple(metrics):
    return metrics.precision, metrics.recall, metrics.ap, metrics.f1


def test_released_checkpoint_has_the_original_figures(released):
    metrics = original_metrics(released.detections, released.index.labels, FRAME)
    assert as_tuple(metrics) == pytest.approx((0.511931, 0.289160, 0.348983, 0.342372), abs=2e-5)


def test_perfect_detections_have_every_figure_one():
    labels = [labels_of((*BOX, 0), (*FAR_BOX, 1)), labels_of((*BOX, 1))]
    detections = [detections_of((*BOX, 0.9, 0), (*FAR_BOX, 0.8, 1)), detections_of((*BOX, 0.7, 1))]
    assert as_tuple(original_metrics(detections, labels, FRAME)) == (1, 1, 1, 1)


def test_ap_is_the_area_under_the_envelope():
    # Four labels; hits at ranks 1, 3 and 4: precision 1, 2/3, 3/4, of which the envelope makes 1, 3/4, 3/4.
    boxes = [(20 + 80 * n, 20, 60 + 80 * n, 60) for n in range(4)]
    labels = [labels_of(*((*box, 0) for box in boxes))]
    rows = [(*boxes[0], 0.9, 0), (*FAR_BOX, 0.8, 0), (*boxes[1], 0.7, 0), (*boxes[2], 0.6, 0)]
    metrics = original_metrics([detections_of(*rows)], labels, FRAME)
    assert as_tuple(metrics) == pytest.approx((3 / 4, 3 / 4, (1 + 3 / 4 + 3 / 4) / 4, 3 / 4))


def test_only_ap_counts_detections_below_the_score_threshold():
    labels = [labels_of((*BOX, 0), (*FAR_BOX, 0))]
    detections = [detections_of((*BOX, 0.9, 0), (*FAR_BOX, 0.2, 0))]
    assert as_tuple(original_metrics(detections, labels, FRAME)) == pytest.approx((1, 0.5, 1, 2 / 3))
    assert as_tuple(original_metrics(detections, labels, FRAME, conf=0.1)) == (1, 1, 1, 1)


def test_a_score_at_the_threshold_does_not_exceed_it():
    labels, detections = [labels_of((*BOX, 0))], [detections_of((*BOX, 0.5, 0))]
    assert as_tuple(original_metrics(detections, labels, FRAME, conf=0.5)) == (0, 0, 1, 0)


def test_the_second_detection_of_a_label_is_false():
    labels, detections = [labels_of((*BOX, 0))], [detections_of((*BOX, 0.9, 0), (*BOX, 0.8, 0))]
    assert as_tuple(original_metrics(detections, labels, FRAME)) == pytest.approx((0.5, 1, 1, 2 / 3))


def test_the_label_that_is_hit_may_be_of_another_class_that_occurs_in_the_image():
    labels = [labels_of((*BOX, 0), (*FAR_BOX, 1))]
    # Class 1 on the label of class 0 is a hit, as class 1 occurs; then class 0 finds it taken.
    detections = [detections_of((*BOX, 0.9, 1), (*BOX, 0.8, 0))]
    assert original_metrics(detections, labels, FRAME).ap == pytest.approx((0 + 1) / 2)


def test_a_detection_whose_class_is_not_in_the_image_is_false_and_takes_no_label():
    labels = [labels_of((*BOX, 0)), labels_of((*FAR_BOX, 1))]
    detections = [detections_of((*BOX, 0.9, 1), (*BOX, 0.8, 0)), detections_of()]
    assert original_metrics(detections, labels, FRAME).ap == pytest.approx((1 + 0) / 2)


def test_boxes_count_pixels_inclusively():
    # 9×8.7 in 9×18 is an IoU of 0.483; counted inclusively it is 10·9.7 / 10·19 = 0.511.
    labels = [labels_of((0, 0, 9, 18, 0))]
    assert original_metrics([detections_of((0, 0, 9, 8.7, 0.9, 0))], labels, FRAME).ap == 1
    assert original_metrics([detections_of((0, 0, 9, 8.3, 0.9, 0))], labels, FRAME).ap == 0


def test_classes_that_are_only_detected_are_in_no_mean():
    labels = [labels_of((*BOX, 0))]
    detections = [detections_of((*BOX, 0.9, 0), (*FAR_BOX, 0.8, 7))]
    assert as_tuple(original_metrics(detections, labels, FRAME)) == (1, 1, 1, 1)


def test_no_detections_at_all():
    labels = [labels_of((*BOX, 0)), labels_of()]
    assert as_tuple(original_metrics([detections_of()] * 2, labels, FRAME)) == (0, 0, 0, 0)


@pytest.mark.parametrize("images", [0, 2])
def test_without_labels_no_figure_is_defined(images):
    metrics = original_metrics([detections_of((*BOX, 0.9, 0))] * images, [labels_of()] * images, FRAME)
    assert all(map(math.isnan, as_tuple(metrics)))


def test_tensors_are_taken_too():
    labels, detections = [labels_of((*BOX, 0))], [detections_of((*BOX, 0.9, 0))]
    expected = original_metrics(detections, labels, FRAME)
    assert original_metrics([torch.from_numpy(d) for d in detections], labels, FRAME) == expected


def slow_hits(detections, labels, frame):
    """The definition word for word: one detection after the other, one label after the other."""
    hits, taken = [], set()
    for x1, y1, x2, y2, _, number in detections.tolist():
        best, best_overlap = None, -1.0
        for place, (_, cx, cy, w, h) in enumerate(labels.astype(float).tolist()):
            a1, b1, a2, b2 = ((cx - w / 2), (cy - h / 2), (cx + w / 2), (cy + h / 2))
            a1, b1, a2, b2 = a1 * frame[0], b1 * frame[1], a2 * frame[0], b2 * frame[1]
            across = max(min(x2, a2) - max(x1, a1) + 1, 0)
            down = max(min(y2, b2) - max(y1, b1) + 1, 0)
            both = (x2 - x1 + 1) * (y2 - y1 + 1) + (a2 - a1 + 1) * (b2 - b1 + 1)
            overlap = across * down / (both - across * down)
            if overlap > best_overlap:
                best, best_overlap = place, overlap
        present = number in labels[:, 0]
        hit = len(taken) < len(labels) and present and best_overlap >= 0.5 and best not in taken
        hits.append(hit)
        if hit:
            taken.add(best)
    return hits


def slow_original(detections, labels, frame, conf):
    found = [
        (score, number, hit)
        for rows, boxes in zip(detections, labels, strict=True)
        for (*_, score, number), hit in zip(rows.tolist(), slow_hits(rows, boxes, frame), strict=True)
    ]
    found.sort(reverse=True)
    everything = np.concatenate(labels)[:, 0].tolist()
    figures = []
    for number in sorted(set(everything)):
        total = everything.count(number)
        own = [(score, hit) for score, other, hit in found if other == number]
        points = [(sum(hit for _, hit in own[:n]), n) for n in range(1, len(own) + 1)]
        ap, recall_before = 0.0, 0.0
        for place, (true, _) in enumerate(points):
            ap += (true / total - recall_before) * max(t / n for t, n in points[place:])
            recall_before = true / total
        shown = [hit for score, hit in own if score > conf]
        precision = sum(shown) / len(shown) if shown else 0
        recall = sum(shown) / total
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0
        figures.append((precision, recall, ap, f1))
    return tuple(np.mean(figures, 0))


@settings(max_examples=150, deadline=None)
@given(measured_sets(), st.sampled_from([0.10025, 0.30025, 0.60025]))
def test_equals_the_definition_word_for_word(measured, conf):
    detections, labels = measured
    metrics = original_metrics(detections, labels, FRAME, conf=conf)
    if sum(map(len, labels)):
        assert as_tuple(metrics) == pytest.approx(slow_original(detections, labels, FRAME, conf), abs=1e-9)
    else:
        assert math.isnan(metrics.ap)


@settings(max_examples=50, deadline=None)
@given(measured_sets(), st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(measured, random):
    order = list(range(len(measured[0])))
    random.shuffle(order)
    shuffled = [[part[place] for place in order] for part in measured]
    expected, metrics = (as_tuple(original_metrics(*parts, FRAME)) for parts in (measured, shuffled))
    assert metrics == pytest.approx(expected, nan_ok=True)


@settings(max_examples=50, deadline=None)
@given(measured_sets())
def test_a_frame_of_another_shape_with_equal_shares_has_equal_confusion(measured):
    detections, labels = measured
    wide = [rows * np.array([2, 1, 2, 1, 1, 1], np.float32) for rows in detections]
    expected = confusion_matrix(detections, labels, FRAME, 3)
    assert np.array_equal(confusion_matrix(wide, labels, (2 * FRAME[0], FRAME[1]), 3), expected)


@settings(max_examples=50, deadline=None)
@given(measured_sets(), st.sampled_from([0.10025, 0.30025, 0.60025]))
def test_the_confusion_matrix_counts_each_label_and_each_shown_detection_once(measured, conf):
    detections, labels = measured
    matrix = confusion_matrix(detections, labels, FRAME, 3, conf=conf)
    numbers = np.concatenate(labels)[:, 0].astype(int)
    shown = np.concatenate(detections)
    shown = shown[shown[:, 4] > conf][:, 5].astype(int)
    assert np.array_equal(matrix[:3].sum(1), np.bincount(numbers, minlength=3))
    assert np.array_equal(matrix[:, :3].sum(0), np.bincount(shown, minlength=3))
    assert matrix[3, 3] == 0


def test_confusion_of_a_hit_a_mix_up_a_miss_and_a_false_alarm():
    labels = [labels_of((*BOX, 0), (*FAR_BOX, 1), (100, 10, 140, 50, 1))]
    rows = [(*BOX, 0.9, 0), (*FAR_BOX, 0.8, 2), (10, 300, 40, 340, 0.7, 0), (100, 10, 140, 50, 0.2, 1)]
    expected = np.zeros((4, 4), int)
    expected[0, 0] = expected[1, 2] = expected[1, 3] = expected[3, 0] = 1
    assert np.array_equal(confusion_matrix([detections_of(*rows)], labels, FRAME, 3), expected)


def test_a_label_is_joined_with_the_detection_that_overlaps_it_most():
    labels = [labels_of((*BOX, 0))]
    shifted = (14, 10, 64, 60)
    detections = [detections_of((*shifted, 0.9, 1), (*BOX, 0.5, 0))]
    matrix = confusion_matrix(detections, labels, FRAME, 2)
    assert matrix[0].tolist() == [1, 0, 0]
    assert matrix[2].tolist() == [0, 1, 0]


def test_confusion_of_nothing_is_zero():
    assert not confusion_matrix([detections_of()], [labels_of()], FRAME, 2).any()


def test_confusion_of_perfect_detections_is_diagonal(released):
    labels = released.index.labels
    boxes = [np.hstack((b[:, 1:3] - b[:, 3:] / 2, b[:, 1:3] + b[:, 3:] / 2)) * 352 for b in labels]
    detections = [
        np.column_stack((box, np.full(len(b), 0.9), b[:, 0])).astype(np.float32)
        for box, b in zip(boxes, labels, strict=True)
    ]
    matrix = confusion_matrix(detections, labels, FRAME, 80)
    assert np.trace(matrix) == matrix.sum() == 898


def test_mistakes_an_image():
    """One label found, one missed, one taken for another class, one detection of nothing, one below the threshold."""
    labels = np.array([[0, 0.2, 0.2, 0.2, 0.2], [0, 0.5, 0.5, 0.2, 0.2], [1, 0.8, 0.8, 0.2, 0.2]], np.float32)
    found = np.array(
        [[10, 10, 30, 30, 0.9, 0], [70, 70, 90, 90, 0.8, 0], [0, 60, 20, 80, 0.7, 1], [60, 0, 80, 20, 0.1, 1]],
        np.float32,
    )
    nothing = np.zeros((0, 6), np.float32)
    mistakes = count_mistakes([found, nothing, nothing], [labels, labels, labels[:0]], (100, 100), 2)
    assert mistakes.tolist() == [3, 3, 0]
