"""utils.evaluation.coco: golden numbers, hand-made cases, comparison with COCOeval.summarize, properties."""

import contextlib
import copy
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.helpers.measured import FRAME, detections_of, index_of, labels_of, measured_sets
from utils.dataset.coco_json import category_ids, coco_content, image_ids
from utils.evaluation.coco import COCO_METRICS, coco_metrics, coco_results

pytestmark = pytest.mark.slow

BOX, FAR_BOX = (10, 10, 60, 60), (200, 200, 300, 260)
NAMES = ("cat", "dog", "cow")


def compute(detections, labels, sizes=None, names=NAMES, **options):
    index = index_of(labels, sizes)
    results = coco_results(detections, image_ids(index.images), category_ids(names), FRAME, index.sizes)
    return coco_metrics(results, coco_content(index, names, "."), **options)


def pycocotools_stats(results, truth):
    """The 12 COCO metrics as COCOeval.summarize computes them."""
    with contextlib.redirect_stdout(io.StringIO()):
        labeled = COCO()
        labeled.dataset = copy.deepcopy(truth)
        labeled.createIndex()
        evaluator = COCOeval(labeled, labeled.loadRes(copy.deepcopy(results)), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats


@pytest.fixture(scope="module")
def golden(released):
    index = released.index
    results = coco_results(
        released.detections, image_ids(index.images), category_ids(released.class_names), FRAME, index.sizes
    )
    truth = coco_content(index, released.class_names, index.source.parent)
    return results, truth, coco_metrics(results, truth)


def test_golden_metrics_of_the_released_checkpoint(golden):
    expected = {
        "AP": 0.1861,
        "AP50": 0.3364,
        "AP75": 0.1645,
        "AP_small": 0.0373,
        "AP_medium": 0.1068,
        "AP_large": 0.3138,
    }
    summary = golden[2].summary
    assert {name: summary[name] for name in expected} == pytest.approx(expected, abs=2e-4)


def test_released_checkpoint_equals_pycocotools(golden):
    results, truth, metrics = golden
    assert list(metrics.summary.values()) == pytest.approx(pycocotools_stats(results, truth).tolist(), abs=1e-12)


def test_class_table_of_the_released_checkpoint_agrees_with_the_summary(golden, released):
    metrics = golden[2]
    assert [row.name for row in metrics.classes] == list(released.class_names)
    assert (metrics.overall.images, metrics.overall.labels) == (128, 898)
    assert sum(row.labels for row in metrics.classes) == 898
    assert np.nanmean([row.ap for row in metrics.classes]) == pytest.approx(metrics.summary["AP"])
    assert np.nanmean([row.ap50 for row in metrics.classes]) == pytest.approx(metrics.summary["AP50"])
    person = metrics.classes[0]
    assert (person.images, person.labels) == (73, 350)
    assert math.isnan(metrics.classes[-1].ap)  # no image contains a toothbrush


def test_pycocotools_reads_the_results_file(golden, tmp_path):
    results, truth, metrics = golden
    path = tmp_path / "detections.json"
    path.write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        labeled = COCO()
        labeled.dataset = copy.deepcopy(truth)
        labeled.createIndex()
        found = labeled.loadRes(str(path))
    assert len(found.anns) == len(results)
    assert metrics.summary["AP"] == pytest.approx(pycocotools_stats(list(found.anns.values()), truth)[0])


def test_results_contain_image_class_box_and_score():
    results = coco_results(
        [detections_of(), detections_of((0, 0, 176, 88, 0.5, 2))], [7, 9], [1, 2, 3], FRAME, [(1, 1), (704, 352)]
    )
    assert results == [{"image_id": 9, "category_id": 3, "bbox": [0, 0, 352, 88], "score": 0.5}]


def test_perfect_detections_have_all_metrics_one():
    labels = [labels_of((*BOX, 0), (*FAR_BOX, 1), (5, 300, 25, 320, 1)), labels_of((20, 20, 200, 200, 0))]
    detections = [
        detections_of((*BOX, 0.9, 0), (*FAR_BOX, 0.8, 1), (5, 300, 25, 320, 0.7, 1)),
        detections_of((20, 20, 200, 200, 0.7, 0)),
    ]
    metrics = compute(detections, labels)
    assert [value for name, value in metrics.summary.items() if name != "AR_1"] == pytest.approx([1] * 11)
    assert metrics.summary["AR_1"] == pytest.approx((1 + 0.5) / 2)
    cat, dog, cow = metrics.classes
    assert (cat.images, cat.labels, dog.images, dog.labels) == (2, 2, 1, 2)
    assert (cat.ap, cat.ap50, cat.f1) == pytest.approx((1, 1, 1))
    assert cat.threshold < 0.7
    assert (cow.images, cow.labels) == (0, 0)
    assert all(map(math.isnan, (cow.ap, cow.ap50, cow.f1, cow.threshold)))


def test_half_of_the_labels_detected():
    labels = [labels_of((*BOX, 0), (*FAR_BOX, 0))]
    metrics = compute([detections_of((*BOX, 0.9, 0))], labels)
    # 51 of the 101 recall values from 0 to 1 are reached.
    assert metrics.summary["AP50"] == pytest.approx(51 / 101)
    assert metrics.classes[0].f1 == pytest.approx(2 / 3)


def test_the_image_shape_does_not_change_the_matches():
    labels = [labels_of((*BOX, 0))]
    metrics = compute([detections_of((*BOX, 0.9, 0))], labels, sizes=[(1000, 50)])
    assert metrics.summary["AP"] == pytest.approx(1)


def test_best_threshold_separates_hits_from_false_positives():
    boxes = [(20 + 80 * n, 20, 60 + 80 * n, 60) for n in range(3)]
    labels = [labels_of(*((*box, 0) for box in boxes))]
    rows = [(*boxes[0], 0.9, 0), (*boxes[1], 0.6, 0), (*FAR_BOX, 0.5, 0), (10, 300, 40, 340, 0.4, 0)]
    metrics = compute([detections_of(*rows)], labels)
    assert metrics.classes[0].f1 == metrics.overall.f1 == pytest.approx(0.8)
    assert 0.5 <= metrics.classes[0].threshold < 0.6
    assert metrics.classes[0].threshold == metrics.overall.threshold


def test_a_class_without_hits_has_no_threshold():
    row = compute([detections_of((*BOX, 0.9, 0))], [labels_of((*FAR_BOX, 0))]).classes[0]
    assert (row.ap, row.f1) == (0, 0)
    assert math.isnan(row.threshold)


@pytest.mark.parametrize("images", [1, 3])
def test_no_detections(images):
    metrics = compute([detections_of()] * images, [labels_of((*BOX, 0))] * images)
    assert metrics.summary["AP"] == metrics.overall.f1 == 0
    assert metrics.classes[0].labels == images
    assert math.isnan(metrics.summary["AP_small"])


def test_no_labels():
    metrics = compute([detections_of((*BOX, 0.9, 0))] * 2, [labels_of()] * 2)
    assert list(metrics.summary) == list(COCO_METRICS)
    assert all(map(math.isnan, metrics.summary.values()))
    assert metrics.overall.images == 2
    assert math.isnan(metrics.overall.f1)


def test_one_class():
    metrics = compute([detections_of((*BOX, 0.9, 0))], [labels_of((*BOX, 0))], names=("helmet",))
    assert [row.name for row in metrics.classes] == ["helmet"]
    assert metrics.overall.ap == metrics.classes[0].ap == pytest.approx(1)


def test_nothing_is_printed_and_no_argument_is_modified(capsys):
    labels = [labels_of((*BOX, 0))]
    truth = coco_content(index_of(labels), NAMES, ".")
    results = coco_results([detections_of((*BOX, 0.9, 0))], [1], [1], FRAME, [FRAME])
    before = copy.deepcopy((truth, results))
    coco_metrics(results, truth)
    assert (truth, results) == before
    assert capsys.readouterr() == ("", "")


def test_results_need_not_be_sorted(golden):
    results, truth, metrics = golden
    assert coco_metrics(results[::-1], truth).summary == pytest.approx(metrics.summary)


@settings(max_examples=30, deadline=None)
@given(measured_sets())
def test_without_sizes_the_other_metrics_are_equal(measured):
    complete, short = compute(*measured), compute(*measured, by_size=False)
    sized = [name for name in COCO_METRICS if name.endswith(("small", "medium", "large"))]
    assert len(sized) == 6
    assert all(math.isnan(short.summary[name]) for name in sized)
    expected = {name: value for name, value in complete.summary.items() if name not in sized}
    assert {name: short.summary[name] for name in expected} == pytest.approx(expected, nan_ok=True)
    np.testing.assert_equal((short.overall, short.classes), (complete.overall, complete.classes))
    np.testing.assert_equal(short.curves, complete.curves)


@settings(max_examples=60, deadline=None)
@given(measured_sets(), st.sampled_from([(352, 352), (640, 480), (90, 1000)]))
def test_equals_pycocotools(measured, size):
    detections, labels = measured
    index = index_of(labels, [size] * len(labels))
    results = coco_results(detections, image_ids(index.images), category_ids(NAMES), FRAME, index.sizes)
    if not results or not sum(map(len, labels)):
        return
    truth = coco_content(index, NAMES, ".")
    expected = pycocotools_stats(results, truth)
    expected[expected == -1] = np.nan
    assert list(coco_metrics(results, truth).summary.values()) == pytest.approx(expected.tolist(), nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(measured_sets(), st.integers(0, 999))
def test_f1_curve_is_the_f1_of_the_detections_above_the_threshold(measured, index):
    detections, labels = measured
    whole = compute(detections, labels)
    # Results contain scores with six decimals.
    above = [rows[rows[:, 4].astype(float).round(6) > index / 1000] for rows in detections]
    assert compute(above, labels).curves.f1[:, 0] == pytest.approx(whole.curves.f1[:, index], nan_ok=True)
    for row, curve in zip(whole.classes, whole.curves.f1, strict=True):
        assert row.f1 == pytest.approx(curve.max(), nan_ok=True)
        if row.labels and row.f1 > 0:
            assert curve[round(row.threshold * 1000)] == row.f1


@settings(max_examples=30, deadline=None)
@given(measured_sets(), st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(measured, random):
    order = list(range(len(measured[0])))
    random.shuffle(order)
    expected, shuffled = (compute(*parts) for parts in (measured, [[part[n] for n in order] for part in measured]))
    assert shuffled.summary == pytest.approx(expected.summary, nan_ok=True)
    for row, other in zip(expected.classes, shuffled.classes, strict=True):
        assert row[:3] == other[:3]
        assert row[3:] == pytest.approx(other[3:], nan_ok=True)
