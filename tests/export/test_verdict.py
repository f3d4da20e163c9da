"""Which detections of an exported model count as the same as in PyTorch, and what is said about them."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.export.verdict import Sample, count_same, describe_changes
from utils.postprocess import Thresholds

INFO = SimpleNamespace(thresholds=Thresholds())
BOX = (10.0, 10, 50, 50, 0.9, 1)


def rows(*detections):
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
    assert count_same(rows(*found), rows(BOX)) == same


@given(st.lists(st.tuples(*[st.integers(0, 20)] * 4, st.integers(0, 2)), max_size=12))
def test_every_detection_with_an_area_is_the_same_as_itself(boxes):
    found = rows(*((x, y, x + w + 1, y + h + 1, 0.5, label) for x, y, w, h, label in boxes))
    assert count_same(found, found) == len(found)


@pytest.mark.parametrize(
    ("found", "expected", "pattern"),
    [
        ([BOX], [BOX], "all 1 detections"),
        ([], [], "nothing is detected"),
        ([BOX, (80.0, 80, 99, 99, 0.4, 0)], [BOX], "1 of 1 detections .*1 more.*--evaluate"),
        ([], [BOX], "0 of 1 detections .*0 more.*--evaluate"),
    ],
)
def test_the_verdict(found, expected, pattern):
    runtime = SimpleNamespace(predict=lambda images, thresholds: [rows(*found)])
    sample = Sample(np.zeros((1, 64, 64, 3), np.uint8), "1 image of x", [rows(*expected)])
    text = describe_changes(runtime, sample, INFO)
    assert "1 image of x" in text
    assert re.match(pattern, text)
