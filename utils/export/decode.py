"""Activation and decoding of all predictions in PyTorch, for exported networks and whatever needs every prediction.

Detection decodes only the few predictions that can become detections, see `utils.postprocess`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from model import STRIDES
from model.output import DetectorOutput, ScaleOutput
from utils.boxes import decode_boxes
from utils.postprocess import Anchors


class Predictions(NamedTuple):
    """All K predictions for each image of a batch, in the order: stride (16 first), row, column, anchor."""

    boxes: torch.Tensor  # [N, K, 4] (cx, cy, w, h) in input pixels
    objectness: torch.Tensor  # [N, K] 0…1
    scores: torch.Tensor  # [N, K] objectness times the probability of the best class
    labels: torch.Tensor  # [N, K] class id of the best class


def to_tensors(output: DetectorOutput) -> DetectorOutput:
    """Convert the outputs of an exported network from arrays to tensors."""
    return DetectorOutput(*(ScaleOutput(*map(torch.from_numpy, scale)) for scale in output))


def activate(output: DetectorOutput) -> DetectorOutput:
    """Convert logits to float32 probabilities: sigmoid of boxes and objectness, softmax of classes."""
    return DetectorOutput(
        *(
            ScaleOutput(
                boxes=scale.boxes.float().sigmoid(),
                objectness=scale.objectness.float().sigmoid(),
                classes=scale.classes.float().softmax(1),
            )
            for scale in output
        )
    )


def decode(activated: DetectorOutput, anchors: Anchors | Sequence[torch.Tensor]) -> Predictions:
    """Convert activated outputs, from `activate` or from an exported network, to predictions."""
    parts = []
    for scale, scale_anchors, stride in zip(activated, anchors, STRIDES, strict=True):
        if not isinstance(scale_anchors, torch.Tensor):
            scale_anchors = scale.boxes.new_tensor(scale_anchors)
        batch, _, height, width = scale.boxes.shape
        boxes = scale.boxes.view(batch, scale_anchors.shape[0], 4, height, width).permute(0, 3, 4, 1, 2)
        columns, rows = torch.arange(width, device=boxes.device), torch.arange(height, device=boxes.device)
        cells = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).unsqueeze(2)  # [H, W, 1, 2]
        objectness = scale.objectness.permute(0, 2, 3, 1)  # [N, H, W, A]
        probability, label = (best.unsqueeze(-1).expand_as(objectness) for best in scale.classes.max(1))
        parts.append(
            Predictions(
                decode_boxes(boxes, cells, scale_anchors, stride).flatten(1, 3),
                objectness.flatten(1),
                (objectness * probability).flatten(1),
                label.flatten(1),
            )
        )
    return Predictions(*(torch.cat(tensors, 1) for tensors in zip(*parts, strict=True)))
