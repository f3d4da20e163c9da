"""Polygons, boxes with keypoints and tracks are told apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.dataset.label_layout import choose_layout
from utils.dataset.labels import parse_labels

seeds = st.integers(0, 2**32 - 1)


def draw_box(random, least):
    sides = random.uniform(least, 0.6, 2)
    return random.uniform(sides / 2, 1 - sides / 2), sides


def polygon(random, count, lowest_radius):
    """A polygon around a center; convex if lowest_radius is 1."""
    center, sides = draw_box(random, 0.02)
    angles = np.sort(random.uniform(0, 2 * np.pi, count))
    radii = random.uniform(lowest_radius, 1, (count, 1))
    return (center + np.stack((np.cos(angles), np.sin(angles)), 1) * radii * sides / 2).ravel().round(6)


def pose(random, count, visibility=False):
    """A box and keypoints in and near it."""
    center, sides = draw_box(random, 0.05)
    points = (center + random.uniform(-0.55, 0.55, (count, 2)) * sides).clip(0, 1)
    if visibility:
        points = np.column_stack((points, random.integers(1, 3, count)))
    return np.concatenate((center, sides, points.ravel())).round(6)


def wrong(read, make, files=400):
    """Share of the files that are not read as `read`."""
    return np.mean([choose_layout(make(np.random.default_rng(seed))) != read for seed in range(files)])


@pytest.mark.parametrize("lowest_radius", [0.4, 1])
@pytest.mark.parametrize("count", [3, 4, 5, 8, 16, 30])
def test_single_polygons(count, lowest_radius):
    assert wrong("polygon", lambda random: [polygon(random, count, lowest_radius)]) < 0.02


@pytest.mark.parametrize(("lines", "count"), [(1, 13), (1, 21), (4, 7), (4, 17)])
def test_keypoints_without_visibility(lines, count):
    assert wrong("keypoints", lambda random: [pose(random, count) for _ in range(lines)]) < 0.02


@given(seeds, st.integers(1, 21), st.integers(1, 4))
def test_keypoints_with_visibility(seed, count, lines):
    random = np.random.default_rng(seed)
    rows = [pose(random, count, visibility=True).tolist() for _ in range(lines)]
    labels = parse_labels("\n".join("0 " + " ".join(map(str, row)) for row in rows))
    assert (labels.changes["keypoints"], labels.changes["polygon"], labels.problems) == (lines, 0, [])
    assert labels.labels[:, 1:] == pytest.approx(np.array(rows)[:, :4], abs=1e-6)


def test_polygons_of_different_lengths_are_not_keypoints():
    random = np.random.default_rng(0)
    assert choose_layout([pose(random, 5), pose(random, 6)]) == "polygon"


def test_box_with_2d_keypoints():
    parsed = parse_labels("0 0.5 0.5 0.5 0.5 0.40 0.40 0.60 0.40 0.50 0.50 0.42 0.62 0.58 0.62")
    assert parsed.changes["keypoints"] == 1
    assert parsed.labels.tolist() == [[0, 0.5, 0.5, 0.5, 0.5]]


@pytest.mark.parametrize("track", ["0", "1", "7"])
def test_score_and_track_id_are_an_error(track):
    parsed = parse_labels(f"0 0.5 0.5 0.5 0.5\n0 0.5 0.5 0.5 0.5 0.91 {track}\n")
    assert [line for line, _ in parsed.problems] == [2]
    assert "track id" in parsed.problems[0][1]


def test_track_id_only_is_a_box():
    assert parse_labels("0 0.5 0.5 0.5 0.5 1").labels.tolist() == [[0, 0.5, 0.5, 0.5, 0.5]]


def test_boxes_and_polygons_in_one_file():
    parsed = parse_labels("0 .5 .5 .1 .1\n0 .1 .1 .2 .1 .2 .3 .15 .35\n0 .1 .1 .2 .1 .2 .3\n")
    assert (len(parsed.labels), parsed.changes["polygon"], parsed.problems) == (3, 2, [])


def test_contradictory_lines_are_errors():
    parsed = parse_labels("0 .5 .5 .2 .2 .5 .5 2\n0 .1 .1 .2 .1 .2 .3 .15 .35\n")
    assert [line for line, _ in parsed.problems] == [1, 2]
