"""Boxes between label, frame and image."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_convert, box_iou

from utils.boxes import frame_to_image, labels_to_frame, paired_iou, shape_iou, side_ratio, xyxy_iou_matrix


def test_each_axis_has_its_own_factor():
    boxes = frame_to_image(np.array([[10.0, 20, 30, 40]]), (100, 100), (200, 50))
    assert boxes.tolist() == [[20, 10, 60, 20]]


def test_boxes_are_clipped_to_the_image():
    boxes = frame_to_image(np.array([[-10.0, -5, 500, 400]]), (352, 352), (640, 480))
    assert boxes.tolist() == [[0, 0, 640, 480]]


def test_no_boxes():
    assert frame_to_image(np.zeros((0, 4)), (352, 352), (640, 480)).shape == (0, 4)
    assert labels_to_frame(np.zeros((0, 4)), (352, 352)).shape == (0, 4)
    assert xyxy_iou_matrix(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)
    assert xyxy_iou_matrix(np.zeros((1, 4)), np.zeros((1, 4))) == 0


fractions = st.floats(0.01, 0.99)
sizes = st.tuples(st.integers(1, 5000), st.integers(1, 5000))


@given(fractions, fractions, fractions, fractions, sizes, sizes)
def test_a_label_survives_the_way_through_frame_and_image(x1, x2, y1, y2, frame, image):
    corners = torch.tensor([[min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]], dtype=torch.float64)
    label = box_convert(corners, "xyxy", "cxcywh")
    in_image = frame_to_image(labels_to_frame(label.numpy(), frame), frame, image)
    expected = corners * torch.tensor(image, dtype=torch.float64).repeat(2)
    torch.testing.assert_close(torch.from_numpy(in_image), expected, atol=1e-6, rtol=1e-9)


@given(st.lists(st.tuples(*[st.floats(0.125, 300, width=32) for _ in range(4)]), max_size=8))
def test_iou_matrix_equals_torchvision_s(rows):
    boxes = box_convert(torch.tensor(rows, dtype=torch.float64).reshape(-1, 4), "cxcywh", "xyxy")
    others = boxes[: len(boxes) // 2] + 1
    expected = box_iou(boxes, others)
    torch.testing.assert_close(xyxy_iou_matrix(boxes, others), expected)
    np.testing.assert_allclose(xyxy_iou_matrix(boxes.numpy(), others.numpy()), expected)


@given(st.lists(st.tuples(*[st.floats(0.125, 300, width=32) for _ in range(8)]), max_size=8))
def test_paired_iou_is_the_diagonal_of_torchvision_s(rows):
    pairs = torch.tensor(rows, dtype=torch.float64).reshape(-1, 2, 4)
    boxes, targets = pairs[:, 0], pairs[:, 1]
    expected = box_iou(box_convert(boxes, "cxcywh", "xyxy"), box_convert(targets, "cxcywh", "xyxy")).diagonal()
    torch.testing.assert_close(paired_iou(boxes, targets), expected, rtol=1e-4, atol=1e-6)


def test_paired_iou_of_boxes_without_area():
    boxes = torch.zeros(2, 3, 4)
    assert paired_iou(boxes, boxes).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_shape_iou_and_side_ratio_for_arrays_and_tensors():
    random = np.random.default_rng(0)
    sizes, anchors = np.exp(random.normal(3, 1, (50, 2))), np.exp(random.normal(3, 1, (7, 2)))
    boxes, others = (torch.from_numpy(np.concatenate((np.zeros_like(part), part), 1)) for part in (sizes, anchors))
    ratios = np.maximum(sizes[:, None] / anchors, anchors / sizes[:, None]).max(2)
    np.testing.assert_allclose(shape_iou(sizes, anchors), box_iou(boxes, others), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(side_ratio(sizes, anchors), ratios, rtol=1e-12, atol=1e-14)
    tensors = torch.from_numpy(sizes), torch.from_numpy(anchors)
    np.testing.assert_allclose(shape_iou(*tensors), box_iou(boxes, others), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(side_ratio(*tensors), ratios, rtol=1e-12, atol=1e-14)
