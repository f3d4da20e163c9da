"""Decoding of the other detectors' outputs, on outputs made by hand; their files are not part of the project."""

import sys

import numpy as np
import pytest

from tests.conftest import REPO


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(REPO / "benchmarks"))
    monkeypatch.delitem(sys.modules, "peers", raising=False)
    import peers

    return peers


IMAGE = np.zeros((160, 320, 3), np.uint8)


def outputs(monkeypatch, peers, *arrays):
    monkeypatch.setattr(peers, "run_net", lambda net, pixels, names: list(arrays))


def logit(value):
    return np.log(value / (1 - value))


def test_fastestdet(peers, monkeypatch):
    output = np.zeros((5 + 3, 4, 4), np.float32)
    output[5] = 1
    # Column 2, row 1, a quarter of a cell to the right; half of the image wide, a quarter high.
    output[:, 1, 2] = [0.5, np.arctanh(0.25), 0, logit(0.5), logit(0.25), 0.1, 0.8, 0.1]
    outputs(monkeypatch, peers, output)
    (found,) = peers.fastestdet(None, IMAGE, 64)
    left, top = 2.25 / 4 - 0.25, 1 / 4 - 0.125
    np.testing.assert_allclose(found, [left, top, left + 0.5, top + 0.25, 0.5**0.6 * 0.8**0.4, 1], rtol=1e-6)


def test_yolo_fastest(peers, monkeypatch):
    outputs(monkeypatch, peers, np.float32([[3, 0.7, 0.1, 0.2, 0.3, 0.4]]))
    np.testing.assert_allclose(peers.yolo_fastest(None, IMAGE, 64), [[0.1, 0.2, 0.3, 0.4, 0.7, 2]], rtol=1e-6)
    outputs(monkeypatch, peers, np.zeros((0, 6), np.float32))
    assert peers.yolo_fastest(None, IMAGE, 64).shape == (0, 6)


def test_nanodet_takes_the_letterbox_off(peers, monkeypatch):
    arrays = []
    for stride in (8, 16, 32):  # 160 x 320 pixels become 32 x 64: no frame
        cells = 32 // stride * (64 // stride)
        scores, distances = np.zeros((cells, 5), np.float32), np.zeros((cells, 4 * 8), np.float32)
        distances[:, [1, 9, 17, 25]] = 50  # one cell to each side
        arrays += [scores, distances]
    arrays[0][8 + 3, 4] = 0.9  # stride 8, row 1, column 3
    outputs(monkeypatch, peers, *arrays)
    (found,) = peers.nanodet(None, IMAGE, 64)
    expected = [(3.5 - 1) * 8 / 64, (1.5 - 1) * 8 / 32, (3.5 + 1) * 8 / 64, (1.5 + 1) * 8 / 32, 0.9, 4]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_overlapping_detections_of_a_class_are_suppressed(peers):
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 0.9], [0, 0, 1, 0.9]])
    found = peers.suppress(boxes, np.array([0.5, 0.9, 0.8]), np.array([0, 0, 1]), iou=0.45)
    assert found[:, 4:].tolist() == [[0.9, 0], [0.8, 1]]


def test_boxes_are_clipped_to_the_image(peers):
    found = peers.to_frame(np.array([[-0.1, 0.5, 1.2, 0.75, 0.9, 3]]), (100, 200))
    assert found.tolist() == [[0, 100, 100, 150, pytest.approx(0.9), 3]]


def test_the_threshold_of_the_layer_is_lowered(peers):
    line = peers.with_threshold("Yolov3DetectionOutput d 2 1 a b output 0=80 1=3 2=5.500000e-01 -23304=2,1,2")
    assert line == "Yolov3DetectionOutput d 2 1 a b output 0=80 1=3 2=0.01 -23304=2,1,2"
