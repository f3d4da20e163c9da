"""IoU k-means: IoU and assignment against plain loops, properties of every result, golden numbers."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils import anchors as module
from utils.anchors import (
    box_sizes,
    cluster,
    distinct_sizes,
    fit,
    fit_report,
    lloyd,
    replace_anchors,
    start_centers,
)
from utils.boxes import shape_iou
from utils.config import read_config
from utils.dataset.labels import find_labels, parse_labels
from utils.errors import InputError
from utils.files import read_text

ANCHORS = [[1.5, 2.25], [30, 40.125]]

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


def loop_totals(sizes, centers):
    """Assign boxes in a plain loop; return per center: boxes, sum of log widths, sum of log heights."""
    totals = np.zeros((len(centers), 3))
    for width, height in sizes:
        ious = []
        for center_width, center_height in centers:
            intersection = min(width, center_width) * min(height, center_height)
            ious.append(intersection / (width * height + center_width * center_height - intersection))
        totals[int(np.argmax(ious))] += 1, np.log(width), np.log(height)
    return totals


def read_sizes(folder):
    """Read the box sizes of a training set at 352x352."""
    labels = []
    for line in (folder / "train.txt").read_text(encoding="utf-8").split():
        (path,) = find_labels([str(folder / line)]).files
        if path:
            labels.append(parse_labels(read_text(path)).labels)
    return box_sizes(labels, 352, 352)


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
def test_a_box_matches_below_the_ratio(size, matched):
    assert fit([size], [[10, 20]]).recall == matched


@pytest.mark.parametrize("count", [1, 2, 300, 1500])
@pytest.mark.parametrize("anchor_count", [1, 2, 6])
@pytest.mark.parametrize("pairs", [7, 1000, 1 << 16])
def test_fit_equals_a_loop_over_boxes_for_every_part_size(monkeypatch, count, anchor_count, pairs):
    monkeypatch.setattr(module, "_PAIRS", pairs)
    sizes, anchors = random_sizes(count, count), random_sizes(anchor_count, anchor_count + 100) + 0.003
    fitted = fit(sizes, anchors)
    ratio = np.maximum(sizes[:, None] / anchors, anchors / sizes[:, None]).max(2)
    assert fitted.boxes == tuple(loop_totals(sizes, anchors)[:, 0])
    assert fitted.average_iou == pytest.approx(shape_iou(sizes, anchors).max(1).mean(), abs=1e-12)
    assert fitted.recall == pytest.approx((ratio < 2).any(1).mean(), abs=1e-12)


def test_box_sizes_are_in_pixels_of_the_input():
    labels = [np.array([[0, 0.5, 0.5, 0.25, 0.5]], np.float32), np.empty((0, 5), np.float32)]
    assert box_sizes(labels, 352, 320).tolist() == [[88, 160]]
    assert box_sizes([], 352, 320).shape == (0, 2)
    assert box_sizes([np.empty((0, 5), np.float32)], 352, 320).shape == (0, 2)


def test_distinct_sizes_are_counted_to_a_hundredth():
    sizes, counts = distinct_sizes([[5, 5], [2, 9], [5.004, 4.996], [2, 8.99], [0.001, 3]])
    assert sizes.tolist() == [[0.01, 3], [2, 8.99], [2, 9], [5, 5]]
    assert counts.tolist() == [1, 1, 1, 2]


@pytest.mark.parametrize("seed", range(4))
def test_lloyd_ends_where_another_iteration_changes_nothing(seed):
    sizes = random_sizes(700, seed)
    distinct, counts = distinct_sizes(sizes)
    start = start_centers(distinct, counts, 5, np.random.default_rng(seed))
    centers, iterations = lloyd(distinct, counts, start)
    totals = loop_totals(sizes, centers)
    np.testing.assert_allclose(np.exp(totals[:, 1:] / totals[:, :1]), centers, rtol=1e-9)
    assert iterations > 1
    assert fit(sizes, centers).average_iou > fit(sizes, start).average_iou


def test_a_repeated_box_has_the_weight_of_its_count():
    repeated = np.repeat(random_sizes(40, 5), np.arange(1, 41), axis=0)
    start = random_sizes(3, 6)
    centers, _ = lloyd(*distinct_sizes(repeated), start)
    np.testing.assert_allclose(centers, lloyd(repeated, np.ones(len(repeated)), start)[0], rtol=1e-9)
    totals = loop_totals(repeated, centers)
    np.testing.assert_allclose(np.exp(totals[:, 1:] / totals[:, :1]), centers, rtol=1e-9)


def test_empty_clusters_of_a_bad_start_are_filled():
    sizes = random_sizes(200, 7)
    far = np.array([[9000.0, 9000.0]] * 3 + [[20.0, 20.0]] * 2)
    centers, _ = lloyd(*distinct_sizes(sizes), far)
    assert loop_totals(sizes, centers)[:, 0].all()


def test_rounding_to_two_decimals_leaves_no_anchor_without_a_box():
    """With plain rounding one anchor would be 1.01,1.01, which is the nearest one of no box (found by trial)."""
    sizes = [(1, 1), (1, 1.02), (1.01, 1.02), (1.02, 1.01), (1.02, 1.03), (1.03, 1), (1.03, 1.02)]
    sizes = np.repeat(sizes, [1, 2, 1, 1, 1, 200, 1], axis=0)
    for seed in range(10):
        assert min(fit(sizes, cluster(sizes, 5, seed, restarts=1)).boxes) > 0


@given(size_lists, st.integers(0, 2**31))
def test_start_centers_are_different_boxes(sizes, seed):
    distinct, counts = distinct_sizes(sizes)
    centers = start_centers(distinct, counts, len(distinct), np.random.default_rng(seed))
    assert sorted(centers.tolist()) == distinct.tolist()


@settings(max_examples=60, deadline=None)
@given(st.data(), size_lists, st.integers(0, 1000))
def test_properties_of_every_result(data, sizes, seed):
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


def test_each_seed_has_other_starts_and_more_starts_are_not_worse():
    sizes = random_sizes(2000, 8)
    once = {seed: fit(sizes, cluster(sizes, 6, seed, restarts=1)).average_iou for seed in range(6)}
    assert len(set(once.values())) > 1
    assert all(fit(sizes, cluster(sizes, 6, seed)).average_iou >= value for seed, value in once.items())


def test_well_separated_clusters_are_found():
    centers = np.array([[5, 9], [20, 12], [40, 80], [150, 60], [160, 300]])
    random = np.random.default_rng(9)
    sizes = np.repeat(centers, 100, axis=0) * np.exp(random.normal(0, 0.03, (500, 2)))
    found = cluster(sizes, 5)
    np.testing.assert_allclose(found, centers, rtol=0.02)
    assert fit(sizes, found).boxes == (100,) * 5


@pytest.mark.parametrize(
    ("sizes", "clusters", "message"),
    [
        ([], 1, "boxes, got none"),
        ([[10, 20]] * 50, 2, r"at least 2 .* 2 clusters, got 1 \(boxes in all: 50\)"),
        ([[10, 20], [10.001, 20.004]], 2, r"at least 2 .* 2 clusters, got 1 \(boxes in all: 2\)"),
        ([[10, 20], [20, 10], [1, 1]], 4, "at least 4 .* 4 clusters, got 3"),
        ([[10, 20], [0, 20]], 1, "box 1: .* above 0 .*, got 0 x 20"),
        ([[10, -20]], 1, "box 0: .* above 0 .*, got 10 x -20"),
        ([[10, 20], [10, 20], [float("nan"), 1]], 1, "box 2: .*, got nan x 1"),
        ([[10, float("inf")]], 1, "box 0: .* below 1e[+]07 px, got 10 x inf"),
        ([[2e7, 10]], 1, "box 0: .* below 1e[+]07 px, got 2e[+]07 x 10"),
    ],
)
def test_boxes_that_cannot_be_clustered(sizes, clusters, message):
    with pytest.raises(InputError, match=message):
        cluster(sizes, clusters)


def test_a_single_size_is_one_cluster():
    assert cluster([[10, 20]] * 50, 1).tolist() == [[10, 20]]


def test_anchors_of_tiny_boxes_are_above_zero():
    assert cluster([[0.001, 0.002], [0.001, 0.003]], 1).tolist() == [[0.01, 0.01]]


def test_fit_report():
    report = fit_report(np.array([[10.0, 20.5]]), fit([[10, 20.5], [10, 20.5], [100, 20.5]], [[10, 20.5]]))
    assert report.split("\n") == [
        "average IoU 0.700000",
        "best possible recall 66.67% (boxes within a factor of 2 of an anchor)",
        "width  height  boxes",
        "10.00   20.50      3",
    ]


# Average IoU of the original's anchors on the same boxes.
@pytest.mark.parametrize(("name", "boxes", "original"), [("helmet", 8079, 0.6998), ("mask", 3075, 0.7214)])
def test_real_boxes_fit_better_than_with_the_originals_anchors(shared, name, boxes, original):
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


# Files


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("anchors=1,2, 3,4\n", "anchors=1.50,2.25, 30.00,40.12\n"),
        ("anchors=1,2, 3,4", "anchors=1.50,2.25, 30.00,40.12"),
        ("a=1\r\nanchors=1,2, 3,4\r\nb=2\r\n", "a=1\r\nanchors=1.50,2.25, 30.00,40.12\r\nb=2\r\n"),
        ("a=1\ranchors=1,2\rb=2", "a=1\ranchors=1.50,2.25, 30.00,40.12\rb=2"),
        ("\ufeffanchors=1\n", "\ufeffanchors=1.50,2.25, 30.00,40.12\n"),
        ("  anchors\t= 1,2 \t\nx=1", "  anchors\t= 1.50,2.25, 30.00,40.12 \t\nx=1"),
        ("#anchors=1\n # anchors=2\nanchors=3\n", "#anchors=1\n # anchors=2\nanchors=1.50,2.25, 30.00,40.12\n"),
        ("anchors=1#c # d\n", "anchors=1.50,2.25, 30.00,40.12 #c # d\n"),
        ("anchors=1   # c\n", "anchors=1.50,2.25, 30.00,40.12 # c\n"),
        (f"anchors={'1,1, ' * 8}1,1   # c\n", f"anchors=1.50,2.25, 30.00,40.12{' ' * 24}# c\n"),
        ("anchors=\nanchor_num=1\n", "anchors=1.50,2.25, 30.00,40.12\nanchor_num=1\n"),
        ("my_anchors=1\nanchors=2\n# größe\n", "my_anchors=1\nanchors=1.50,2.25, 30.00,40.12\n# größe\n"),
    ],
)
def test_only_the_value_is_replaced(tmp_path, before, after):
    path = tmp_path / "x.data"
    path.write_bytes(before.encode())
    backup = replace_anchors(path, ANCHORS)
    assert path.read_bytes() == after.encode()
    assert backup == tmp_path / "x.data.bak"
    assert backup.read_bytes() == before.encode()


def test_a_comment_keeps_its_column(tmp_path):
    path = tmp_path / "x.data"
    path.write_text(f"width=352{' ' * 40}# one\nanchors=1,2, 3,4{' ' * 33}# two\n", encoding="utf-8")
    replace_anchors(path, ANCHORS)
    one, two = path.read_text(encoding="utf-8").splitlines()
    assert one.index("#") == two.index("#")


def test_backups_are_never_overwritten(tmp_path):
    path = tmp_path / "x.data"
    path.write_text("anchors=1,2\n", encoding="utf-8")
    names = [replace_anchors(path, [[number, number]]).name for number in (1, 2, 3)]
    assert names == ["x.data.bak", "x.data.bak-2", "x.data.bak-3"]
    kept = [(tmp_path / name).read_text(encoding="utf-8") for name in names]
    assert kept == ["anchors=1,2\n", "anchors=1.00,1.00\n", "anchors=2.00,2.00\n"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    path = tmp_path / "real/x.data"
    path.write_text("anchors=1,2\n", encoding="utf-8")
    (tmp_path / "link.data").symlink_to(path)
    assert replace_anchors(tmp_path / "link.data", [[3, 4]]).name == "x.data.bak"
    assert (tmp_path / "link.data").is_symlink()
    assert path.read_text(encoding="utf-8") == "anchors=3.00,4.00\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"width=352\n# anchors=1,2\n", r"x\.data: .*anchors="),
        (b"anchors=1,2 # gr\xf6\xdfe\n", r"x\.data: .*UTF-8.* 0xf6"),
        (None, r"x\.data: cannot read"),
    ],
)
def test_data_files_that_anchors_cannot_be_written_to(tmp_path, content, message):
    if content is not None:
        (tmp_path / "x.data").write_bytes(content)
    with pytest.raises(InputError, match=message):
        replace_anchors(tmp_path / "x.data", ANCHORS)
    assert not (tmp_path / "x.data.bak").exists()


def test_writing_the_current_anchors_changes_nothing(repo, tmp_path):
    shutil.copytree(repo / "data", tmp_path / "data", ignore=shutil.ignore_patterns("shapes"))
    path = tmp_path / "data/coco.data"
    before = path.read_bytes()
    replace_anchors(path, np.array(read_config(path).anchors).reshape(-1, 2))
    assert path.read_bytes() == before
