"""The Yolo-FastestV2 detector: backbone, feature pyramid and three output layers that both scales share."""

import torch
from torch import nn

from model import DetectorOutput, ScaleOutput
from model.backbone.shufflenetv2 import ShuffleNetV2
from model.fpn import WIDTH, LightFPN


class Detector(nn.Module):
    """The detector.

    Args:
        classes: number of classes, 1 or more.
        anchor_num: anchors per scale.
        backbone: module that maps images to features at stride 16 and 32, with their channel counts in `out_channels`;
            ShuffleNetV2 by default.
    """

    def __init__(self, classes: int, anchor_num: int, backbone: nn.Module | None = None) -> None:
        super().__init__()
        if classes < 1 or anchor_num < 1:
            raise ValueError(f"expected 1 or more classes and anchors, got {classes} and {anchor_num}")
        self.classes = classes
        self.anchor_num = anchor_num
        self.backbone = ShuffleNetV2() if backbone is None else backbone
        self.fpn = LightFPN(*self.backbone.out_channels)
        self.output_reg_layers = nn.Conv2d(WIDTH, 4 * anchor_num, 1)
        self.output_obj_layers = nn.Conv2d(WIDTH, anchor_num, 1)
        self.output_cls_layers = nn.Conv2d(WIDTH, classes, 1)

    def forward(self, images: torch.Tensor) -> DetectorOutput:
        """Compute the logits at H/16×W/16 and at H/32×W/32 cells.

        Args:
            images: [N, 3, H, W], BGR, 0…1; H and W divisible by 32.
        """
        scales = self.fpn(*self.backbone(images))
        return DetectorOutput(*(self._output(*features) for features in scales))

    def _output(self, class_features: torch.Tensor, box_features: torch.Tensor) -> ScaleOutput:
        return ScaleOutput(
            boxes=self.output_reg_layers(box_features),
            objectness=self.output_obj_layers(class_features),
            classes=self.output_cls_layers(class_features),
        )
