"""utils.evaluation.original: golden numbers, hand-made cases, a slow reference implementation, properties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.measured import FRAME, detections_of, labels_of, measured_sets
from utils.evaluation.original import original_metrics

BOX, FAR_BOX = (10, 10, 60, 60), (200, 200, 300, 260)


def as_tuple(metrics):
    return metrics.precision, metrics.recall, metrics.ap, metrics.f1


def test_golden_metrics_of_the_released_checkpoint(released):
    metrics = original_metrics(released.detections, released.index.labels, FRAME)
    assert as_tuple(metrics) == pytest.approx((0.511931, 0.289160, 0.348983, 0.342372), abs=2e-5)


def test_perfect_detections_have_all_metrics_one():
    labels = [labels_of((*BOX, 0), (*FAR_BOX, 1)), labels_of((*BOX, 1))]
    detections = [detections_of((*BOX, 0.9, 0), (*FAR_BOX, 0.8, 1)), detections_of((*BOX, 0.7, 1))]
    assert as_tuple(original_metrics(detections, labels, FRAME)) == (1, 1, 1, 1)


def test_ap_is_the_area_under_the_envelope():
    # Four labels; hits at ranks 1, 3 and 4: precision 1, 2/3, 3/4; its envelope is 1, 3/4, 3/4.
    boxes = [(20 + 80 * n, 20, 60 + 80 * n, 60) for n in range(4)]
    labels = [labels_of(*((*box, 0) for box in boxes))]
    rows = [(*boxes[0], 0.9, 0), (*FAR_BOX, 0.8, 0), (*boxes[1], 0.7, 0), (*boxes[2], 0.6, 0)]
    metrics = original_metrics([detections_of(*rows)], labels, FRAME)
    assert as_tuple(metrics) == pytest.approx((3 / 4, 3 / 4, (1 + 3 / 4 + 3 / 4) / 4, 3 / 4))


def test_only_ap_uses_detections_below_the_score_threshold():
    labels = [labels_of((*BOX, 0), (*FAR_BOX, 0))]
    detections = [detections_of((*BOX, 0.9, 0), (*FAR_BOX, 0.2, 0))]
    assert as_tuple(original_metrics(detections, labels, FRAME)) == pytest.approx((1, 0.5, 1, 2 / 3))
    assert as_tuple(original_metrics(detections, labels, FRAME, conf=0.1)) == (1, 1, 1, 1)


def test_a_score_equal_to_the_threshold_is_below_it():
    labels, detections = [labels_of((*BOX, 0))], [detections_of((*BOX, 0.5, 0))]
    assert as_tuple(original_metrics(detections, labels, FRAME, conf=0.5)) == (0, 0, 1, 0)


def test_the_second_detection_of_a_label_is_a_false_positive():
    labels, detections = [labels_of((*BOX, 0))], [detections_of((*BOX, 0.9, 0), (*BOX, 0.8, 0))]
    assert as_tuple(original_metrics(detections, labels, FRAME)) == pytest.approx((0.5, 1, 1, 2 / 3))


def test_a_detection_can_match_a_label_of_another_class():
    labels = [labels_of((*BOX, 0), (*FAR_BOX, 1))]
    # Class 1 on the label of class 0 is a hit because class 1 occurs in the image. Then class 0 finds no free label.
    detections = [detections_of((*BOX, 0.9, 1), (*BOX, 0.8, 0))]
    assert original_metrics(detections, labels, FRAME).ap == pytest.approx((0 + 1) / 2)


def test_a_detection_of_a_class_without_labels_in_the_image_matches_no_label():
    labels = [labels_of((*BOX, 0)), labels_of((*FAR_BOX, 1))]
    detections = [detections_of((*BOX, 0.9, 1), (*BOX, 0.8, 0)), detections_of()]
    assert original_metrics(detections, labels, FRAME).ap == pytest.approx((1 + 0) / 2)


def test_boxes_include_their_last_pixel():
    # The IoU of 9×8.7 in 9×18 is 0.483; with the last pixel it is 10·9.7 / 10·19 = 0.511.
    labels = [labels_of((0, 0, 9, 18, 0))]
    assert original_metrics([detections_of((0, 0, 9, 8.7, 0.9, 0))], labels, FRAME).ap == 1
    assert original_metrics([detections_of((0, 0, 9, 8.3, 0.9, 0))], labels, FRAME).ap == 0


def test_classes_without_labels_are_not_part_of_the_means():
    labels = [labels_of((*BOX, 0))]
    detections = [detections_of((*BOX, 0.9, 0), (*FAR_BOX, 0.8, 7))]
    assert as_tuple(original_metrics(detections, labels, FRAME)) == (1, 1, 1, 1)


def test_no_detections():
    labels = [labels_of((*BOX, 0)), labels_of()]
    assert as_tuple(original_metrics([detections_of()] * 2, labels, FRAME)) == (0, 0, 0, 0)


@pytest.mark.parametrize("images", [0, 2])
def test_metrics_are_undefined_without_labels(images):
    metrics = original_metrics([detections_of((*BOX, 0.9, 0))] * images, [labels_of()] * images, FRAME)
    assert all(map(math.isnan, as_tuple(metrics)))


def slow_hits(detections, labels, frame):
    """The definition in plain loops over detections and labels."""
    hits, taken = [], set()
    for x1, y1, x2, y2, _, class_id in detections.tolist():
        best, best_overlap = None, -1.0
        for index, (_, cx, cy, w, h) in enumerate(labels.astype(float).tolist()):
            a1, b1, a2, b2 = ((cx - w / 2), (cy - h / 2), (cx + w / 2), (cy + h / 2))
            a1, b1, a2, b2 = a1 * frame[0], b1 * frame[1], a2 * frame[0], b2 * frame[1]
            width = max(min(x2, a2) - max(x1, a1) + 1, 0)
            height = max(min(y2, b2) - max(y1, b1) + 1, 0)
            areas = (x2 - x1 + 1) * (y2 - y1 + 1) + (a2 - a1 + 1) * (b2 - b1 + 1)
            overlap = width * height / (areas - width * height)
            if overlap > best_overlap:
                best, best_overlap = index, overlap
        present = class_id in labels[:, 0]
        hit = len(taken) < len(labels) and present and best_overlap >= 0.5 and best not in taken
        hits.append(hit)
        if hit:
            taken.add(best)
    return hits


def slow_original(detections, labels, frame, conf):
    found = [
        (score, class_id, hit)
        for rows, boxes in zip(detections, labels, strict=True)
        for (*_, score, class_id), hit in zip(rows.tolist(), slow_hits(rows, boxes, frame), strict=True)
    ]
    found.sort(reverse=True)
    label_classes = np.concatenate(labels)[:, 0].tolist()
    per_class = []
    for class_id in sorted(set(label_classes)):
        total = label_classes.count(class_id)
        own = [(score, hit) for score, other, hit in found if other == class_id]
        points = [(sum(hit for _, hit in own[:n]), n) for n in range(1, len(own) + 1)]
        ap, recall_before = 0.0, 0.0
        for index, (true, _) in enumerate(points):
            ap += (true / total - recall_before) * max(t / n for t, n in points[index:])
            recall_before = true / total
        above = [hit for score, hit in own if score > conf]
        precision = sum(above) / len(above) if above else 0
        recall = sum(above) / total
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0
        per_class.append((precision, recall, ap, f1))
    return tuple(np.mean(per_class, 0))


@settings(max_examples=150, deadline=None)
@given(measured_sets(), st.sampled_from([0.10025, 0.30025, 0.60025]))
def test_equals_the_slow_reference(measured, conf):
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
    shuffled = [[part[index] for index in order] for part in measured]
    expected, metrics = (as_tuple(original_metrics(*parts, FRAME)) for parts in (measured, shuffled))
    assert metrics == pytest.approx(expected, nan_ok=True)
