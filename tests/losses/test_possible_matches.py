"""Possible matches: indexed like predictions, able to reach their box, at least one for each box."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model import STRIDES
from tests.losses.test_original import ANCHORS, random_output
from utils.export.graph import activate, decode
from utils.losses.simota import MAX_RATIO, SimotaLoss, decode_matches, flatten_output
from utils.training.recipe import DEFAULT, RECIPES

LOSS = SimotaLoss(RECIPES[DEFAULT], ANCHORS)
SIZE = (96, 128)  # height, width

boxes = st.tuples(
    st.integers(0, 2),
    st.integers(0, 3),
    st.floats(0, 1, width=32),
    st.floats(0, 1, width=32),
    st.floats(2**-10, 1, width=32),
    st.floats(2**-10, 1, width=32),
)


def origins_of(candidates):
    """Return the [M, K, 2] upper left corners of the cells in input pixels."""
    return candidates.positions * candidates.strides


def targets_of(rows):
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)


def test_indices_and_boxes_equal_those_of_predictions():
    output = random_output(batch=3, side=96, seed=1)
    targets = torch.rand(40, 6, generator=torch.Generator().manual_seed(0))
    targets[:, 0] = torch.arange(40) % 3
    targets[:, 1] = 1
    candidates = LOSS.prepare(targets, (96, 96))
    found = decode(activate(output), ANCHORS)
    box_logits, objectness, class_logits = flatten_output(output)
    expected = found.boxes.flatten(0, 1)[candidates.anchor]
    assert torch.equal(decode_matches(box_logits, candidates), expected)
    # All anchors of a cell share its class, and their indices are consecutive.
    assert torch.equal(candidates.cell, candidates.anchor // len(ANCHORS[0]))
    probability, label = (best.repeat_interleave(len(ANCHORS[0])) for best in class_logits.softmax(1).max(1))
    torch.testing.assert_close(objectness.sigmoid() * probability, found.scores.flatten())
    assert torch.equal(label, found.class_ids.flatten())


@given(st.lists(boxes, max_size=12))
def test_allowed_predictions_can_reach_their_box(rows):
    targets = targets_of(rows)
    candidates = LOSS.prepare(targets, SIZE)
    assert candidates.allowed.shape == (len(rows), 24)
    centers = candidates.boxes[:, None, :2]
    offset = (centers - origins_of(candidates)) / candidates.strides
    reached = ((offset >= -0.5 - 1e-5) & (offset <= 1.5 + 1e-5)).all(2)
    assert reached[candidates.allowed].all()
    origins = origins_of(candidates)[candidates.allowed]
    assert ((origins >= 0) & (origins < torch.tensor([SIZE[1], SIZE[0]]))).all()


@given(st.lists(boxes, min_size=1, max_size=12))
def test_every_box_has_a_possible_match(rows):
    candidates = LOSS.prepare(targets_of(rows), SIZE)
    assert candidates.allowed.any(1).all()
    ratio = candidates.boxes[:, None, 2:] / candidates.anchor_sizes
    fits = torch.maximum(ratio, 1 / ratio).amax(2) < MAX_RATIO
    for allowed, fitting in zip(candidates.allowed, fits, strict=True):
        if (allowed & fitting).any():
            assert fitting[allowed].all()


def test_all_cells_that_reach_a_box_are_possible_matches():
    """Compare with a search through all cells of each scale."""
    rng = np.random.default_rng(0)
    targets = targets_of([(0, 0, x, y, 0.3, 0.3) for x, y in rng.uniform(0.02, 0.98, (50, 2))])
    candidates = LOSS.prepare(targets, SIZE)
    first = 0
    for stride in STRIDES:
        rows, columns = SIZE[0] // stride, SIZE[1] // stride
        for box, cells, origins in zip(candidates.boxes, candidates.cell, origins_of(candidates), strict=True):
            x, y = (box[:2] / stride).tolist()
            expected = {
                first + row * columns + column
                for row in range(rows)
                for column in range(columns)
                if -0.5 < x - column <= 1.5 and -0.5 < y - row <= 1.5
            }
            at_scale = (cells >= first) & (cells < first + rows * columns)
            in_reach = ((box[:2] - origins) / stride > -0.5).all(1) & ((box[:2] - origins) / stride <= 1.5).all(1)
            assert set(cells[at_scale & in_reach].tolist()) == expected
        first += rows * columns


@pytest.mark.parametrize("side", [0.0005, 1.0])
def test_a_box_that_fits_no_anchor_gets_the_most_similar_one(side):
    anchors = (((40, 40), (42, 42)), ((44, 44), (48, 48)))
    candidates = SimotaLoss(RECIPES[DEFAULT], anchors).prepare(
        targets_of([(0, 0, 0.5, 0.5, side, side * 0.7)]), (352, 352)
    )
    sizes = candidates.anchor_sizes[candidates.allowed[0]].unique(dim=0)
    assert sizes.tolist() == [[40, 40] if side < 1 else [48, 48]]


def test_no_boxes():
    candidates = LOSS.prepare(torch.zeros(0, 6), SIZE)
    assert candidates.allowed.shape == (0, 24)
    assert candidates.boxes.shape == (0, 4)
