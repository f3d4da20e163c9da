"""Matches of the original loss: golden values, and single boxes with known matches."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model import STRIDES
from utils.losses.original import match_targets

ANCHORS = (
    ((12.64, 19.39), (37.88, 51.48), (55.71, 138.31)),
    ((126.91, 78.23), (131.57, 214.55), (279.92, 258.87)),
)
GRID = (22, 22)


def matches(found_matches):
    """Return [matches, 5]: image, anchor, row, column, class."""
    columns = (
        found_matches.image,
        found_matches.anchor,
        found_matches.row,
        found_matches.column,
        found_matches.class_id,
    )
    return torch.stack(columns, 1)[found_matches.matched]


def one_target(cx, cy, width, height, label=0, image=0):
    return torch.tensor([[image, label, cx, cy, width, height]])


@pytest.mark.parametrize("scale", [0, 1])
def test_golden_matches(shared, scale):
    golden = np.load(shared / "reference" / "loss.npz")
    stride = STRIDES[scale]
    found_matches = match_targets(
        torch.from_numpy(golden["targets"]), ANCHORS[scale], stride, (352 // stride, 352 // stride)
    )
    assert matches(found_matches).tolist() == golden[f"match{stride}"].tolist()


def cells(cx, cy, grid=GRID):
    """(row, column) of the matches of a box of the second anchor's size, its center given in cells."""
    rows, columns = grid
    frame = torch.tensor([columns * 16.0, rows * 16.0])
    width, height = (torch.tensor(ANCHORS[0][1]) / frame).tolist()
    found = matches(match_targets(one_target(cx / columns, cy / rows, width, height), ANCHORS[0], 16, grid))
    found = found[found[:, 1] == 1]
    return sorted(map(tuple, found[:, 2:4].tolist()))


@pytest.mark.parametrize(
    ("cx", "cy", "expected"),
    [
        (5.25, 7.25, [(6, 5), (7, 4), (7, 5)]),  # nearer to left and above
        (5.75, 7.75, [(7, 5), (7, 6), (8, 5)]),  # nearer to right and below
        (0.25, 0.25, [(0, 0)]),  # at the border: no neighbor
        (21.75, 21.75, [(21, 21)]),
        (22.0, 22.0, [(21, 21)] * 3),  # on the far edge: all in the last cell, counted three times, as in the original
    ],
)
def test_a_box_matches_its_cell_and_the_nearer_neighbors(cx, cy, expected):
    assert cells(cx, cy) == expected


def test_centers_are_relative_to_the_responsible_cell_also_on_the_far_edge():
    found_matches = match_targets(one_target(1.0, 1.0, 40 / 352, 40 / 352), ((40.0, 40.0),), 16, GRID)
    found = found_matches.matched
    assert found_matches.boxes[found, :2].tolist() == [[1.0, 1.0]] * 3
    torch.testing.assert_close(found_matches.boxes[found, 2:], torch.full((3, 2), 40 / 16))
    torch.testing.assert_close(found_matches.anchor_sizes[found], torch.full((3, 2), 40 / 16))


def test_two_boxes_may_share_a_cell_and_an_anchor():
    targets = torch.cat([one_target(0.5 / 22, 0.5 / 22, 40 / 352, 40 / 352, label=label) for label in (3, 5)])
    assert matches(match_targets(targets, ((40.0, 40.0),), 16, GRID)).tolist() == [[0, 0, 0, 0, 3], [0, 0, 0, 0, 5]]


def test_nothing_waits_for_the_device():
    """Tensors on the meta device have no values, so code that reads a value on the host fails."""
    found_matches = match_targets(torch.zeros(7, 6, device="meta"), ANCHORS[0], 16, GRID)
    assert {tensor.device.type for tensor in found_matches} == {"meta"}
    assert {len(tensor) for tensor in found_matches} == {5 * 3 * 7}


def test_a_grid_that_is_not_square():
    assert cells(29.75, 3.25, grid=(10, 30)) == [(2, 29), (3, 29)]


@pytest.mark.parametrize(("factor", "count"), [(1.99, 1), (2.01, 0), (1 / 1.99, 1), (1 / 2.01, 0)])
def test_sides_match_within_a_factor_of_two(factor, count):
    # The center is in the middle of the border cell, so that only one cell is responsible.
    target = one_target(0.5 / 22, 0.5 / 22, 40 * factor / 352, 40 / 352)
    found = matches(match_targets(target, ((40.0, 40.0),), 16, GRID))
    assert len(found) == count


def test_no_targets():
    assert matches(match_targets(torch.zeros(0, 6), ANCHORS[0], 16, GRID)).shape == (0, 5)


fractions = st.floats(0.001, 0.999)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(fractions, fractions, fractions, fractions), min_size=1, max_size=8))
def test_matches_lie_on_the_grid_and_within_reach_of_their_box(boxes):
    targets = torch.tensor([[i, 0, *box] for i, box in enumerate(boxes)])
    for anchors, stride in zip(ANCHORS, STRIDES, strict=True):
        side = 352 // stride
        found_matches = match_targets(targets, anchors, stride, (side, side))
        found = found_matches.matched
        assert ((found_matches.row >= 0) & (found_matches.row < side)).all()
        assert ((found_matches.column >= 0) & (found_matches.column < side)).all()
        # The range of 2σ − 0.5.
        relative = found_matches.boxes[found, :2]
        assert ((relative >= -0.5 - 1e-4) & (relative <= 1.5 + 1e-4)).all()
        ratio = found_matches.boxes[found, 2:] / found_matches.anchor_sizes[found]
        assert (torch.maximum(ratio, 1 / ratio) < 2).all()
        # Own cell, one neighbor along x, one along y.
        assert found.sum() <= 3 * len(anchors) * len(boxes)
