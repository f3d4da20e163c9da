"""All box formulas: corners, IoU, CIoU, shapes, decoding, and conversion between coordinate frames.

Boxes are (cx, cy, w, h) unless a name says `xyxy`, which is (x1, y1, x2, y2). The functions take PyTorch tensors or
NumPy arrays and return the same type, unless the annotation allows only one of them.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

Array = TypeVar("Array", "torch.Tensor", np.ndarray)

EPSILON = 1e-7  # keeps divisors above 0, so that boxes without area do not give NaN


def _library(array: torch.Tensor | np.ndarray) -> ModuleType:
    if isinstance(array, np.ndarray):
        return np
    import torch  # here, because scripts that only need NumPy (genanchors.py, tools/) start 2 seconds faster

    return torch


def corners(boxes: Array) -> tuple[Array, Array]:
    """Convert [..., 4] boxes from center and size to their low and high corners, each [..., 2]."""
    return boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2


def cxcywh_to_xyxy(boxes: Array) -> Array:
    """Convert [..., 4] boxes from center and size to (x1, y1, x2, y2)."""
    return _library(boxes).concatenate(corners(boxes), -1)


def paired_iou(boxes: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Compute the IoU of each box with the target at the same position: [..., 4] and [..., 4] to [...]."""
    (low, high), (target_low, target_high) = corners(boxes), corners(targets)
    intersection = _area((high.minimum(target_high) - low.maximum(target_low)).clamp(min=0))
    union = _area(boxes[..., 2:]) + _area(targets[..., 2:]) - intersection
    return intersection / (union + EPSILON)


def _area(sides: torch.Tensor) -> torch.Tensor:
    """Multiply [..., 2] sides. The gradient of `prod` counts zeros on the host, which a CUDA graph cannot record."""
    return sides[..., 0] * sides[..., 1]


def xyxy_iou_matrix(boxes: Array, others: Array) -> Array:
    """Compute the IoU of all pairs of (x1, y1, x2, y2): [n, 4] and [m, 4] to [n, m]; 0 if neither box has an area."""
    library = _library(boxes)
    low = library.maximum(boxes[:, None, :2], others[:, :2])
    high = library.minimum(boxes[:, None, 2:], others[:, 2:])
    intersection = (high - low).clip(0).prod(-1)
    area, other_area = ((rows[:, 2:] - rows[:, :2]).prod(-1) for rows in (boxes, others))
    return intersection / (area[:, None] + other_area - intersection).clip(EPSILON)


def complete_iou(boxes: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Compute the CIoU of each box with the target at the same position: [n, 4] and [n, 4] to [n].

    Formula: Zheng et al. 2020, arXiv:1911.08287, equation 10. The trade-off α has no gradient. torchvision's CIoU
    selects with a boolean mask, which makes the host wait for a CUDA device.

    Returns:
        1 for equal boxes; always above −2.
    """
    torch = _library(boxes)
    iou = paired_iou(boxes, targets)
    (low, high), (target_low, target_high) = corners(boxes), corners(targets)
    diagonal = (torch.maximum(high, target_high) - torch.minimum(low, target_low)).square().sum(1) + EPSILON
    distance = (boxes[:, :2] - targets[:, :2]).square().sum(1)

    # Without EPSILON a height of zero gives NaN, which reaches the gradient even where a mask drops the value.
    angle = torch.atan(targets[:, 2] / (targets[:, 3] + EPSILON)) - torch.atan(boxes[:, 2] / (boxes[:, 3] + EPSILON))
    shape = (2 / math.pi * angle).square()
    with torch.no_grad():
        trade_off = shape / (1 - iou + shape + EPSILON)
    return iou - distance / diagonal - trade_off * shape


def shape_iou(sizes: Array, anchors: Array) -> Array:
    """Compute the IoU of boxes [n, 2] and anchors [k, 2] (width, height) that share a center: [n, k]."""
    # NumPy is fastest if the long axis is the last one.
    (widths, heights), (anchor_widths, anchor_heights) = sizes.T, anchors.T[..., None]
    minimum = _library(sizes).minimum
    intersection = minimum(widths, anchor_widths) * minimum(heights, anchor_heights)
    return (intersection / (widths * heights + anchor_widths * anchor_heights - intersection)).T


def side_ratio(sizes: Array, anchors: Array) -> Array:
    """Compute max(w/aw, aw/w, h/ah, ah/h), 1 or more, for boxes [n, 2] and anchors [k, 2] (width, height): [n, k]."""
    maximum = _library(sizes).maximum
    ratios = sizes[:, None] / anchors
    ratios = maximum(ratios, 1 / ratios)
    return maximum(ratios[..., 0], ratios[..., 1])


def decode_centers(offsets: Array, cells: Array, stride: Array | float) -> Array:
    """Convert the activated center outputs to pixels: (2σ(t) − 0.5 + cell) · stride.

    Args:
        offsets: σ(t), 0…1; x and y may be along any axis.
        cells: column and row of the cell of each output, along the same axis.
        stride: input pixels per cell.
    """
    return (offsets * 2 - 0.5 + cells) * stride


def decode_sizes(sides: Array, anchors: Array) -> Array:
    """Convert the activated size outputs σ(t), 0…1, to pixels: (2σ(t))² · anchor."""
    doubled = sides * 2
    return doubled * doubled * anchors


def decode_boxes(
    activated: torch.Tensor, cells: torch.Tensor, anchors: torch.Tensor, stride: torch.Tensor | float
) -> torch.Tensor:
    """Convert activated box outputs to boxes.

    Args:
        activated: [..., 4] σ(t), 0…1.
        cells: [..., 2] column and row of the cell of each output.
        anchors: [..., 2] widths and heights in input pixels.
        stride: input pixels per cell.

    Returns:
        [..., 4] boxes (cx, cy, w, h) in input pixels.
    """
    centers = decode_centers(activated[..., :2], cells, stride)
    return _library(centers).concatenate((centers, decode_sizes(activated[..., 2:], anchors)), -1)


def frame_to_image(boxes: np.ndarray, frame_size: tuple[int, int], image_size: tuple[int, int]) -> np.ndarray:
    """Scale boxes from the network's input to the image, and clip them to the image.

    Images are resized to the input without keeping the aspect ratio, so each axis has its own factor.

    Args:
        boxes: [n, 4] (x1, y1, x2, y2) in input pixels.
        frame_size: (width, height) of the network's input.
        image_size: (width, height) of the image.

    Returns:
        [n, 4] (x1, y1, x2, y2) in image pixels, of the same dtype.
    """
    size = np.array([*image_size, *image_size], boxes.dtype)
    return (boxes * (size / np.array([*frame_size, *frame_size], boxes.dtype))).clip(0, size)


def labels_to_frame(labels: np.ndarray, frame_size: tuple[int, int]) -> np.ndarray:
    """Convert [n, 4] label boxes (fractions of the image) to (x1, y1, x2, y2) in pixels of a (width, height) frame."""
    return cxcywh_to_xyxy(labels) * np.tile(frame_size, 2).astype(labels.dtype)
