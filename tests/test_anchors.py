"""IoU k-means: the metric, the assignment in blocks, what every result must hold, golden figures."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou

from utils import anchors as module
from utils.anchors import Blocks, box_sizes, cluster, distinct_sizes, fit, fit_report, lloyd, matches, shape_iou
from utils.anchors import start_centres as start
from utils.dataset.labels import label_path, parse_labels
from utils.errors import InputError

# Sides in hundredths of a pixel, up to 352 px: the precision that `cluster` works with.
side = st.integers(1, 35_200).map(lambda steps: steps / 100)
near_side = st.integers(1000, 1003).map(lambda steps: steps / 100)
size_lists = st.one_of(
    st.lists(st.tuples(side, side), min_size=1, max_size=40),
    st.lists(st.tuples(near_side, near_side), min_size=1, max_size=40),
)


def random_sizes(count, seed):
    """Log-normal sizes on the grid of hundredths."""
    random = np.random.default_rng(seed)
    return np.maximum(np.round(np.exp(random.normal(3, 1, (count, 2))), 2), 0.01)


def slow_totals(sizes, centres):
    """What Blocks.assign gives, box by box: boxes, sum of log width, sum of log height."""
    totals = np.zeros((len(centres), 3))
    for width, height in sizes:
        ious = []
        for centre_width, centre_height in centres:
            intersection = min(width, centre_width) * min(height, centre_height)
            ious.append(intersection / (width * height + centre_width * centre_height - intersection))
        totals[int(np.argmax(ious))] += 1, np.log(width), np.log(height)
    return totals


def read_sizes(folder):
    """Sizes at 352×352 of a training set, label file by label file."""
    labels = []
    for line in (folder / "train.txt").read_text(encoding="utf-8").split():
        path = label_path(folder / line)
        if path.exists():
            labels.append(parse_labels(path.read_text(encoding="utf-8"), path))
    return box_sizes(labels, 352, 352)


def test_shape_iou_is_the_iou_of_boxes_with_a_common_corner():
    sizes, anchors = random_sizes(50, 0), random_sizes(7, 1)
    boxes, others = (torch.from_numpy(np.concatenate((np.zeros_like(part), part), 1)) for part in (sizes, anchors))
    np.testing.assert_allclose(shape_iou(sizes, anchors), box_iou(boxes, others).numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    ("size", "matched"),
    [
        ((10, 20), True),
        ((19.99, 20), True),
        ((20, 20), False),
        ((5.01, 20), True),
        ((5, 20), False),
        ((10, 39.9), True),
        ((10, 40), False),
        ((10, 10), False),
        ((19, 11), True),
        ((19, 9), False),
    ],
)
def test_matches_is_strict_at_the_ratio(size, matched):
    assert matches(np.array([size]), np.array([[10.0, 20.0]])).item() is matched


def test_fit_counts_each_box_once_however_many_at_a_time(monkeypatch):
    sizes, anchors = random_sizes(300, 2), random_sizes(5, 3)
    whole = fit(sizes, anchors)
    totals = slow_totals(sizes, anchors)
    factor = np.maximum(sizes[:, None] / anchors, anchors / sizes[:, None]).max(2)
    assert whole.boxes == tuple(totals[:, 0])
    assert whole.average_iou == pytest.approx(shape_iou(sizes, anchors).max(1).mean(), abs=1e-12)
    assert whole.recall == pytest.approx((factor < 2).any(1).mean(), abs=1e-12)
    monkeypatch.setattr(module, "_PAIRS", 35)
    in_parts = fit(sizes, anchors)
    assert in_parts[1:] == whole[1:]
    assert in_parts.average_iou == pytest.approx(whole.average_iou, abs=1e-12)


def test_box_sizes_are_in_pixels_of_the_input():
    labels = [np.array([[0, 0.5, 0.5, 0.25, 0.5]], np.float32), np.empty((0, 5), np.float32)]
    assert box_sizes(labels, 352, 320).tolist() == [[88, 160]]
    assert box_sizes([], 352, 320).shape == (0, 2)
    assert box_sizes([np.empty((0, 5), np.float32)], 352, 320).shape == (0, 2)


def test_distinct_sizes_are_counted_to_a_hundredth():
    sizes, counts = distinct_sizes([[5, 5], [2, 9], [5.004, 4.996], [2, 8.99], [0.001, 3]])
    assert sizes.tolist() == [[0.01, 3], [2, 8.99], [2, 9], [5, 5]]
    assert counts.tolist() == [1, 1, 1, 2]


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 200, 1500])
@pytest.mark.parametrize("clusters", [1, 2, 6])
def test_assignment_in_blocks_equals_box_by_box(count, clusters):
    sizes = random_sizes(count, count)
    centres = random_sizes(clusters, clusters + 100) + 0.003
    totals = Blocks(*distinct_sizes(sizes)).assign(centres)
    np.testing.assert_allclose(totals, slow_totals(sizes, centres), rtol=1e-9, atol=1e-9)


def test_blocks_decide_most_boxes(monkeypatch):
    """Else they would be right but pointless."""
    compared = []
    original = module.shape_iou
    blocks = Blocks(*distinct_sizes(random_sizes(50_000, 4)))
    monkeypatch.setattr(
        module, "shape_iou", lambda sizes, others: compared.append(len(sizes)) or original(sizes, others)
    )
    blocks.assign(np.array([[5.0, 5.0], [20.0, 20.0], [80.0, 80.0]]))
    assert sum(compared) < 15_000


def test_repeated_boxes_weigh_as_often_as_they_occur():
    sizes = np.repeat(random_sizes(40, 5), np.arange(1, 41), axis=0)
    blocks = Blocks(*distinct_sizes(sizes))
    centres = random_sizes(3, 6)
    np.testing.assert_allclose(blocks.assign(centres), slow_totals(sizes, centres), rtol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_lloyd_ends_where_another_iteration_changes_nothing(seed):
    sizes = random_sizes(700, seed)
    distinct, counts = distinct_sizes(sizes)
    first = start(distinct, counts, 5, np.random.default_rng(seed))
    centres, iterations = lloyd(Blocks(distinct, counts), first)
    totals = slow_totals(sizes, centres)
    np.testing.assert_allclose(np.exp(totals[:, 1:] / totals[:, :1]), centres, rtol=1e-9)
    assert iterations > 1
    assert fit(sizes, centres).average_iou > fit(sizes, first).average_iou


def test_empty_clusters_of_a_bad_start_are_filled():
    sizes = random_sizes(200, 7)
    far = np.array([[9000.0, 9000.0]] * 3 + [[20.0, 20.0]] * 2)
    centres, _ = lloyd(Blocks(*distinct_sizes(sizes)), far)
    assert slow_totals(sizes, centres)[:, 0].all()


def test_rounding_to_two_decimals_leaves_no_anchor_without_a_box():
    """Found by trying: rounded and left so, one anchor would be 1.01,1.01, which is the best one of no box."""
    sizes = [(1, 1), (1, 1.02), (1.01, 1.02), (1.02, 1.01), (1.02, 1.03), (1.03, 1), (1.03, 1.02)]
    sizes = np.repeat(sizes, [1, 2, 1, 1, 1, 200, 1], axis=0)
    for seed in range(10):
        assert min(fit(sizes, cluster(sizes, 5, seed, restarts=1)).boxes) > 0


@given(size_lists, st.integers(0, 2**31))
def test_start_takes_different_boxes(sizes, seed):
    distinct, counts = distinct_sizes(sizes)
    centres = start(distinct, counts, len(distinct), np.random.default_rng(seed))
    assert sorted(centres.tolist()) == distinct.tolist()


@settings(max_examples=60, deadline=None)
@given(st.data(), size_lists, st.integers(0, 1000))
def test_whatever_the_boxes_the_result_holds(data, sizes, seed):
    different = len(set(sizes))
    clusters = data.draw(st.integers(1, min(different, 10)))
    found = cluster(sizes, clusters, seed, restarts=2)
    fitted = fit(sizes, found)
    assert found.shape == (clusters, 2)
    assert found.tolist() == sorted(found.tolist())
    assert (np.round(found, 2) == found).all()
    assert (found >= np.min(sizes, axis=0) - 1e-9).all()
    assert (found <= np.max(sizes, axis=0) + 1e-9).all()
    assert min(fitted.boxes) > 0
    assert sum(fitted.boxes) == len(sizes)
    assert 0 < fitted.average_iou <= 1
    if clusters == different:
        assert set(map(tuple, found.tolist())) == set(sizes)
        assert fitted.average_iou == 1
    assert cluster(sizes, clusters, seed, restarts=2).tolist() == found.tolist()


def test_seeds_give_their_own_starts_and_more_starts_are_no_worse():
    sizes = random_sizes(2000, 8)
    once = {seed: fit(sizes, cluster(sizes, 6, seed, restarts=1)).average_iou for seed in range(6)}
    assert len(set(once.values())) > 1
    assert all(fit(sizes, cluster(sizes, 6, seed)).average_iou >= value for seed, value in once.items())


def test_well_separated_clusters_are_found():
    centres = np.array([[5, 9], [20, 12], [40, 80], [150, 60], [160, 300]])
    random = np.random.default_rng(9)
    sizes = np.repeat(centres, 100, axis=0) * np.exp(random.normal(0, 0.03, (500, 2)))
    found = cluster(sizes, 5)
    np.testing.assert_allclose(found, centres, rtol=0.02)
    assert fit(sizes, found).boxes == (100,) * 5


@pytest.mark.parametrize(
    ("sizes", "clusters", "message"),
    [
        ([], 1, "expected boxes, got none"),
        ([[10, 20]] * 50, 2, r"at least 2 different sizes for 2 clusters, got 1 \(boxes in all: 50\)"),
        ([[10, 20], [10.001, 20.004]], 2, r"at least 2 different sizes for 2 clusters, got 1 \(boxes in all: 2\)"),
        ([[10, 20], [20, 10], [1, 1]], 4, "at least 4 different sizes for 4 clusters, got 3"),
        ([[10, 20], [0, 20]], 1, "box 1: expected a width and height above 0 .*, got 0 x 20"),
        ([[10, -20]], 1, "box 0: expected a width and height above 0 .*, got 10 x -20"),
        ([[10, 20], [10, 20], [float("nan"), 1]], 1, "box 2: .*, got nan x 1"),
        ([[10, float("inf")]], 1, "box 0: .* below 1e[+]07 px, got 10 x inf"),
        ([[2e7, 10]], 1, "box 0: .* below 1e[+]07 px, got 2e[+]07 x 10"),
    ],
)
def test_boxes_that_cannot_be_clustered(sizes, clusters, message):
    with pytest.raises(InputError, match=message):
        cluster(sizes, clusters)


def test_one_size_many_times_is_one_cluster():
    assert cluster([[10, 20]] * 50, 1).tolist() == [[10, 20]]


def test_boxes_too_small_for_two_decimals_still_have_an_anchor_above_zero():
    assert cluster([[0.001, 0.002], [0.001, 0.003]], 1).tolist() == [[0.01, 0.01]]


def test_report_says_all_of_a_fit():
    report = fit_report(np.array([[10.0, 20.5]]), fit([[10, 20.5], [10, 20.5], [100, 20.5]], [[10, 20.5]]))
    assert report.split("\n") == [
        "average IoU 0.700000",
        "best possible recall 66.67% (boxes within a factor of 2 of an anchor)",
        "width  height  boxes",
        "10.00   20.50      3",
    ]


# The average IoU that the original's clustering reaches on the same boxes.
@pytest.mark.parametrize(("name", "boxes", "original"), [("helmet", 8079, 0.6998), ("mask", 3075, 0.7214)])
def test_real_boxes_are_fitted_better_than_by_the_original(shared, name, boxes, original):
    sizes = read_sizes(shared / name)
    assert len(sizes) == boxes
    for seed in range(3):
        assert fit(sizes, cluster(sizes, 6, seed)).average_iou >= original + 0.005


@pytest.mark.parametrize(
    ("name", "anchors", "average_iou"),
    [
        ("helmet", "11.92,15.07, 18.38,30.05, 27.55,50.14, 39.77,27.94, 46.78,73.84, 82.47,114.62", 0.6998),
        ("mask", "9.06,16.10, 16.49,28.37, 26.26,44.96, 42.84,69.21, 75.71,110.88, 146.12,203.04", 0.7214),
    ],
)
def test_average_iou_of_known_anchors(shared, name, anchors, average_iou):
    known = np.array([float(value) for value in anchors.split(",")]).reshape(-1, 2)
    assert fit(read_sizes(shared / name), known).average_iou == pytest.approx(average_iou, abs=5e-5)
