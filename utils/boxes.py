"""Box arithmetic that torchvision.ops has not: between the network's frame and the image, and pair by pair.

Conversions between (cx, cy, w, h) and (x1, y1, x2, y2) and IoU of all with all are torchvision.ops' own.
"""

import numpy as np
import torch

EPSILON = 1e-7  # of areas, so that boxes without one have an IoU


def frame_to_image(boxes, frame_size, image_size):
    """Boxes in the network's input frame to boxes in the image, clipped to it.

    The image was resized to the frame without keeping its aspect, so each axis has its own factor.

    Args:
        boxes: [n, 4] array, (x1, y1, x2, y2) in pixels of the frame.
        frame_size, image_size: (width, height) in pixels.
    Returns:
        [n, 4] array of the same type, (x1, y1, x2, y2) in pixels of the image.
    """
    size = np.array([*image_size, *image_size], boxes.dtype)
    return (boxes * (size / np.array([*frame_size, *frame_size], boxes.dtype))).clip(0, size)


def labels_to_frame(labels, frame_size):
    """Normalised label boxes to corners in pixels of a frame.

    Args:
        labels: [n, 4], (cx, cy, w, h) as fractions of the image.
        frame_size: (width, height) in pixels.
    Returns:
        [n, 4], (x1, y1, x2, y2) in pixels.
    """
    centre, half = labels[:, :2], labels[:, 2:] / 2
    corners = torch.cat((centre - half, centre + half), 1)
    return corners * corners.new_tensor(frame_size).repeat(2)


def paired_iou(boxes, targets):
    """IoU of each box with the target at its place.

    Args:
        boxes, targets: [..., 4], (cx, cy, w, h), of the same shape.
    Returns:
        [...], 0…1.
    """
    low = torch.maximum(boxes[..., :2] - boxes[..., 2:] / 2, targets[..., :2] - targets[..., 2:] / 2)
    high = torch.minimum(boxes[..., :2] + boxes[..., 2:] / 2, targets[..., :2] + targets[..., 2:] / 2)
    intersection = (high - low).clamp(min=0).prod(-1)
    union = boxes[..., 2:].prod(-1) + targets[..., 2:].prod(-1) - intersection
    return intersection / (union + EPSILON)
