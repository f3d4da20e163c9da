"""The networks that are exported: with activations inside, and with decoding and NMS inside.

`decode` computes all predictions. Detection decodes only the few that can become detections, see `utils.postprocess`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torchvision.ops import box_convert, nms

from model import STRIDES, DetectorOutput, ScaleOutput
from utils.boxes import decode_boxes
from utils.postprocess import Anchors
from utils.runtimes.model_info import ModelInfo


class ActivatedDetector(nn.Module):
    """A detector with sigmoid and softmax inside and one output per scale."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector.eval()

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run the network on images [N, 3, H, W], BGR, 0…1.

        Returns:
            [N, H/16, W/16, 4·A + A + C] and [N, H/32, W/32, 4·A + A + C].
        """
        return tuple(torch.cat(scale, 1).permute(0, 2, 3, 1) for scale in activate(self.detector(images)))


class EndToEndDetector(nn.Module):
    """A detector with decoding and NMS inside, with the same result as `utils.postprocess.detect`."""

    def __init__(self, detector: nn.Module, info: ModelInfo) -> None:
        super().__init__()
        self.detector = detector.eval()
        self.thresholds = info.thresholds
        self.anchors = info.anchors
        self.margin = float(2 * 4 * np.max(self.anchors) + 1)  # a box is at most four times as large as its anchor

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Detect in one image [1, 3, H, W], BGR, 0…1.

        Returns:
            [n, 6] (x1, y1, x2, y2, score, class) in input pixels, highest score first.
        """
        predictions = decode(activate(self.detector(image)), self.anchors)
        boxes, scores, class_ids = (values[0] for values in predictions)
        kept = (scores > self.thresholds.conf).nonzero().squeeze(1)
        boxes, scores = box_convert(boxes[kept], "cxcywh", "xyxy"), scores[kept]
        class_ids = class_ids[kept].to(boxes.dtype)
        # Boxes are shifted by class_id times this offset, so that boxes of different classes do not overlap and one NMS
        # serves all classes. The sides are read in the graph, because they may be dynamic.
        class_offset = image.shape[2] + image.shape[3] + self.margin
        shifted = boxes + class_ids.unsqueeze(1) * class_offset
        best = nms(shifted, scores, self.thresholds.iou)[: self.thresholds.max_det]
        return torch.cat((boxes[best], scores[best].unsqueeze(1), class_ids[best].unsqueeze(1)), 1)


class Predictions(NamedTuple):
    """All K predictions for each image of a batch, in the order: stride (16 first), row, column, anchor."""

    boxes: torch.Tensor  # [N, K, 4] (cx, cy, w, h) in input pixels
    scores: torch.Tensor  # [N, K] objectness times the probability of the best class
    class_ids: torch.Tensor  # [N, K] of the best class


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


def decode(activated: DetectorOutput, anchors: Anchors) -> Predictions:
    """Convert activated outputs, from `activate` or from an exported network, to predictions."""
    parts = []
    for scale, scale_anchors, stride in zip(activated, anchors, STRIDES, strict=True):
        scale_anchors = scale.boxes.new_tensor(scale_anchors)
        batch, _, height, width = scale.boxes.shape
        boxes = scale.boxes.view(batch, scale_anchors.shape[0], 4, height, width).permute(0, 3, 4, 1, 2)
        columns, rows = torch.arange(width, device=boxes.device), torch.arange(height, device=boxes.device)
        cells = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).unsqueeze(2)  # [H, W, 1, 2]
        objectness = scale.objectness.permute(0, 2, 3, 1)  # [N, H, W, A]
        probability, class_id = (best.unsqueeze(-1).expand_as(objectness) for best in scale.classes.max(1))
        parts.append(
            Predictions(
                decode_boxes(boxes, cells, scale_anchors, stride).flatten(1, 3),
                (objectness * probability).flatten(1),
                class_id.flatten(1),
            )
        )
    return Predictions(*(torch.cat(tensors, 1) for tensors in zip(*parts, strict=True)))
