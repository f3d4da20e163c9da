"""The Yolo-FastestV2 detector: backbone, feature pyramid and three output layers that both scales share."""

from typing import NamedTuple

import torch
from torch import nn

from model.backbone.shufflenetv2 import ShuffleNetV2
from model.fpn import WIDTH, LightFPN


class ScaleOutput(NamedTuple):
    """Raw outputs (logits) of one scale, H×W cells, A anchors a cell, C classes a cell."""

    boxes: torch.Tensor  # [N, 4·A, H, W]; channel 4·a + k is coordinate k of anchor a
    objectness: torch.Tensor  # [N, A, H, W]
    classes: torch.Tensor  # [N, C, H, W], shared by the anchors of a cell


class DetectorOutput(NamedTuple):
    stride16: ScaleOutput
    stride32: ScaleOutput


class Detector(nn.Module):
    """
    Args:
        classes: number of classes, 1 or more.
        anchor_num: anchors at each scale.
    """

    def __init__(self, classes, anchor_num):
        super().__init__()
        if classes < 1 or anchor_num < 1:
            raise ValueError(f"expected 1 class and 1 anchor or more, got {classes} and {anchor_num}")
        self.classes = classes
        self.anchor_num = anchor_num
        self.backbone = ShuffleNetV2()
        self.fpn = LightFPN()
        self.output_reg_layers = nn.Conv2d(WIDTH, 4 * anchor_num, 1)
        self.output_obj_layers = nn.Conv2d(WIDTH, anchor_num, 1)
        self.output_cls_layers = nn.Conv2d(WIDTH, classes, 1)

    def forward(self, images):
        """
        Args:
            images: [N, 3, H, W], BGR, 0…1; H and W divisible by 32.
        Returns:
            DetectorOutput with the logits at H/16×W/16 and at H/32×W/32 cells.
        """
        scales = self.fpn(*self.backbone(images))
        return DetectorOutput(*(self._output(*features) for features in scales))

    def _output(self, class_features, box_features):
        return ScaleOutput(
            boxes=self.output_reg_layers(box_features),
            objectness=self.output_obj_layers(class_features),
            classes=self.output_cls_layers(class_features),
        )
