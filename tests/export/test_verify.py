"""Comparison with PyTorch: of a model that includes NMS, and of the detections of any model."""

import dataclasses
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model import DetectorOutput, ScaleOutput
from utils.export.verify import (
    TOLERANCE,
    Reference,
    Sample,
    check_difference,
    count_same,
    describe_changes,
    detections_difference,
    largest_difference,
)
from utils.runtimes.model_info import ModelInfo

TINY = 1e-6  # largest change by rounding
INFO = ModelInfo(
    path=None,
    model_name="m",
    class_names=("a", "b"),
    width=64,
    height=64,
    anchors=(((16.0, 16.0),), ((32.0, 32.0),)),
    conf=0.3,
    iou=0.4,
    max_det=300,
    precision="FP32",
    weights_sha256="0",
)


def reference(*cells):
    """A Reference whose predictions have no objectness, except at `cells`: (scale, row, column, score, class).

    Each has the size of its anchor and lies in the middle of its cell.
    """
    scales = []
    for scale, side in enumerate((4, 2)):
        boxes = torch.full((1, 4, side, side), 0.5)
        objectness, classes = torch.zeros(1, 1, side, side), torch.zeros(1, 2, side, side)
        for _, row, column, score, class_id in (cell for cell in cells if cell[0] == scale):
            objectness[0, 0, row, column] = score
            classes[0, class_id, row, column] = 1
        scales.append(ScaleOutput(boxes, objectness, classes))
    return Reference(np.zeros((64, 64, 3), np.uint8), DetectorOutput(*scales))


def rows_of(*rows):
    return torch.tensor(rows).reshape(-1, 6)


# A box at stride 16, and a box at stride 32 around it (IoU 0.25).
FIRST = (0, 0, 0, 0.9, 0)
FIRST_FOUND = (0.0, 0.0, 16.0, 16.0, 0.9, 0.0)
LARGE = (1, 0, 0, 0.8, 0)
LARGE_FOUND = (0.0, 0.0, 32.0, 32.0, 0.8, 0.0)


def test_equal_detections_have_no_difference():
    assert detections_difference(rows_of(FIRST_FOUND, LARGE_FOUND), reference(FIRST, LARGE), INFO) < TINY
    assert detections_difference(rows_of(), reference(), INFO) == 0


def test_the_difference_is_of_a_score_or_of_a_coordinate_as_a_fraction_of_the_side():
    moved = (0.0, 0.0, 16.0, 16.032, 0.9, 0.0)
    assert detections_difference(rows_of(moved), reference(FIRST), INFO) == pytest.approx(0.0005, rel=0.01)
    less = (0.0, 0.0, 16.0, 16.0, 0.8998, 0.0)
    assert detections_difference(rows_of(less), reference(FIRST), INFO) == pytest.approx(0.0002, rel=0.01)


def test_the_order_of_nearly_equal_scores_does_not_matter():
    equal = (0, 2, 2, 0.9 + TINY, 1)
    other = (32.0, 32.0, 48.0, 48.0, 0.9, 1.0)
    assert detections_difference(rows_of(FIRST_FOUND, other), reference(FIRST, equal), INFO) < TOLERANCE


@pytest.mark.parametrize("score", [0.3 - TINY, 0.3 + TINY])
def test_a_score_at_the_threshold_may_be_detected_or_not(score):
    expected = reference(FIRST, (0, 2, 2, score, 1))
    assert detections_difference(rows_of(FIRST_FOUND), expected, INFO) < TOLERANCE
    near = (32.0, 32.0, 48.0, 48.0, score, 1.0)
    assert detections_difference(rows_of(FIRST_FOUND, near), expected, INFO) < TOLERANCE


def test_either_of_two_overlapping_boxes_of_nearly_equal_score_may_be_kept():
    info = dataclasses.replace(INFO, iou=0.2)  # the large box overlaps the first by 0.25
    expected = reference((0, 0, 0, 0.8 + TINY, 0), LARGE)
    assert detections_difference(rows_of(LARGE_FOUND), expected, info) < TOLERANCE
    assert detections_difference(rows_of((*FIRST_FOUND[:4], 0.8, 0.0)), expected, info) < TOLERANCE


def test_an_overlap_at_the_threshold_may_suppress_or_not():
    info = dataclasses.replace(INFO, iou=0.25)
    expected = reference(FIRST, LARGE)
    assert detections_difference(rows_of(FIRST_FOUND, LARGE_FOUND), expected, info) < TOLERANCE
    assert detections_difference(rows_of(FIRST_FOUND), expected, info) < TOLERANCE


def test_either_of_two_equally_likely_classes_may_be_detected():
    expected = reference(FIRST)
    expected.output.stride16.classes[0, :, 0, 0] = torch.tensor([1.0, 1.0 - TINY])
    assert detections_difference(rows_of((*FIRST_FOUND[:5], 1.0)), expected, INFO) < TOLERANCE
    assert detections_difference(rows_of(FIRST_FOUND), expected, INFO) < TOLERANCE


@pytest.mark.parametrize(
    ("detections", "cells"),
    [
        pytest.param((), (FIRST,), id="missing"),
        pytest.param((FIRST_FOUND,), (FIRST, (0, 2, 2, 0.31, 1)), id="missing a weak one"),
        pytest.param((FIRST_FOUND,), (), id="not a prediction"),
        pytest.param((FIRST_FOUND, FIRST_FOUND), (FIRST,), id="not suppressed"),
        pytest.param(((*FIRST_FOUND[:4], 0.9, 1.0),), (FIRST,), id="another class"),
        pytest.param(((*FIRST_FOUND[:4], 0.8, 0.0),), (FIRST,), id="another score"),
        pytest.param(((0.0, 0.0, 16.0, 18.0, 0.9, 0.0),), (FIRST,), id="another box"),
        pytest.param(((*FIRST_FOUND[:4], 0.2, 0.0),), ((0, 0, 0, 0.2, 0),), id="below the threshold"),
        pytest.param((FIRST_FOUND,), (FIRST, LARGE), id="suppressed without overlap"),
        pytest.param(((math.nan,) * 4 + (0.9, 0.0),), (FIRST,), id="not a number"),
    ],
)
def test_wrong_detections_are_an_error(detections, cells):
    difference = detections_difference(rows_of(*detections), reference(*cells), INFO)
    with pytest.raises(RuntimeError, match=r"^m\.onnx: "):
        check_difference("m.onnx", "FP32", difference)


def test_weaker_detections_than_max_det_may_be_missing():
    info = dataclasses.replace(INFO, max_det=1)
    expected = reference(FIRST, (0, 2, 2, 0.5, 1))
    assert detections_difference(rows_of(FIRST_FOUND), expected, info) < TOLERANCE
    weaker = (32.0, 32.0, 48.0, 48.0, 0.5, 1.0)
    assert detections_difference(rows_of(weaker), expected, info) == math.inf


@pytest.mark.parametrize(("change", "expected"), [(0.0, 0), (0.25, 0.25), (math.nan, math.nan)])
def test_the_largest_difference_of_an_output(change, expected):
    output = DetectorOutput(*(ScaleOutput(*(values.numpy() for values in scale)) for scale in reference().output))
    output.stride32.classes[0, 1, 1, 1] += change
    runtime = SimpleNamespace(prepare=lambda images: images, execute=lambda images: output)
    assert largest_difference(runtime, reference()) == pytest.approx(expected, nan_ok=True)


# How an exported model changes the detections.

BOX = (10.0, 10, 50, 50, 0.9, 1)


def boxes_of(*detections):
    return np.array(detections, np.float32).reshape(-1, 6)


@pytest.mark.parametrize(
    ("found", "same"),
    [
        ([BOX], 1),
        ([(12.0, 10, 52, 50, 0.4, 1)], 1),  # IoU 0.90; the score does not matter
        ([(20.0, 10, 60, 50, 0.9, 1)], 0),  # IoU 0.6
        ([(10.0, 10, 50, 50, 0.9, 0)], 0),
        ([BOX, BOX], 1),  # one partner each
        ([], 0),
    ],
)
def test_the_same_box_and_class_count(found, same):
    assert count_same(boxes_of(*found), boxes_of(BOX)) == same


@given(st.lists(st.tuples(*[st.integers(0, 20)] * 4, st.integers(0, 2)), max_size=12))
def test_every_detection_with_an_area_is_the_same_as_itself(boxes):
    found = boxes_of(*((x, y, x + w + 1, y + h + 1, 0.5, label) for x, y, w, h, label in boxes))
    assert count_same(found, found) == len(found)


@pytest.mark.parametrize(
    ("found", "expected", "pattern"),
    [
        ([BOX], [BOX], "1 of 1 detections .*, 0 new$"),
        ([], [], "nothing is detected"),
        ([BOX, (80.0, 80, 99, 99, 0.4, 0)], [BOX], "1 of 1 detections .*, 1 new; --evaluate"),
        ([], [BOX], "0 of 1 detections .*, 0 new; --evaluate"),
    ],
)
def test_the_verdict(found, expected, pattern):
    runtime = SimpleNamespace(predict=lambda images, thresholds: [boxes_of(*found)])
    sample = Sample(np.zeros((1, 64, 64, 3), np.uint8), "1 image of x", [boxes_of(*expected)])
    text = describe_changes(runtime, sample, INFO)
    assert "1 image of x" in text
    assert re.match(pattern, text)
