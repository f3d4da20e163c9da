"""The networks that are exported: with activations inside, and with decoding and NMS inside."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.ops import box_convert, nms

from model.detector import Detector
from utils.export.decode import activate, decode
from utils.runtimes.model_info import ModelInfo


class ActivatedDetector(nn.Module):
    """A detector with sigmoid and softmax inside and one output per scale."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector.eval()

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run the network on images [N, 3, H, W], BGR, 0…1.

        Returns:
            [N, H/16, W/16, 4·A + A + C] and [N, H/32, W/32, 4·A + A + C].
        """
        return tuple(torch.cat(scale, 1).permute(0, 2, 3, 1) for scale in activate(self.detector(images)))


class EndToEndDetector(nn.Module):
    """A detector with decoding and NMS inside, with the same result as `utils.postprocess.detect`.

    Args:
        detector: the network.
        info: its anchors and thresholds.
    """

    def __init__(self, detector: Detector, info: ModelInfo) -> None:
        super().__init__()
        self.detector = detector.eval()
        self.thresholds = info.thresholds
        self.register_buffer("anchors", torch.tensor(info.anchors))
        self.margin = float(2 * 4 * self.anchors.max() + 1)  # a box is at most four times as large as its anchor

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Detect in one image [1, 3, H, W], BGR, 0…1.

        Returns:
            [n, 6] (x1, y1, x2, y2, score, class) in input pixels, highest score first.
        """
        predictions = decode(activate(self.detector(image)), (self.anchors[0], self.anchors[1]))
        boxes, _, scores, labels = (values[0] for values in predictions)
        kept = (scores > self.thresholds.conf).nonzero().squeeze(1)
        boxes, scores, labels = box_convert(boxes[kept], "cxcywh", "xyxy"), scores[kept], labels[kept].to(boxes.dtype)
        # Boxes are shifted by class_id times this offset, so that boxes of different classes do not overlap and one NMS
        # serves all classes. The sides are read in the graph, because they may be dynamic.
        class_offset = image.shape[2] + image.shape[3] + self.margin
        shifted = boxes + labels.unsqueeze(1) * class_offset
        best = nms(shifted, scores, self.thresholds.iou)[: self.thresholds.max_det]
        return torch.cat((boxes[best], scores[best].unsqueeze(1), labels[best].unsqueeze(1)), 1)
