"""The light feature pyramid with decoupled heads of Yolo-FastestV2."""

import torch
import torch.nn.functional as F
from torch import nn

from model.backbone.shufflenetv2 import STAGE_CHANNELS

WIDTH = 72


class Head(nn.Module):
    """Two depthwise-separable 5×5 convolutions: [N, C, H, W] to the same shape."""

    def __init__(self, channels):
        super().__init__()
        self.block = nn.Sequential(*_separable5x5(channels), *_separable5x5(channels))

    def forward(self, x):
        return self.block(x)


def _separable5x5(channels):
    return (
        nn.Conv2d(channels, channels, 5, padding=2, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    )


def _reduce(channels_in, channels_out):
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class LightFPN(nn.Module):
    """Features of both scales to what the class and the box layers read. `_2` is stride 16, `_3` stride 32."""

    def __init__(self, channels16=STAGE_CHANNELS[-2], channels32=STAGE_CHANNELS[-1], width=WIDTH):
        super().__init__()
        self.conv1x1_2 = _reduce(channels16 + channels32, width)
        self.conv1x1_3 = _reduce(channels32, width)
        self.cls_head_2 = Head(width)
        self.reg_head_2 = Head(width)
        self.reg_head_3 = Head(width)
        self.cls_head_3 = Head(width)

    def forward(self, stride16, stride32):
        """
        Args:
            stride16: [N, 96, H/16, W/16].
            stride32: [N, 192, H/32, W/32].
        Returns:
            ((class features, box features) at stride 16, the same at stride 32), each [N, 72, ·, ·].
        """
        reduced32 = self.conv1x1_3(stride32)
        upsampled = F.interpolate(stride32, scale_factor=2.0, mode="nearest")
        reduced16 = self.conv1x1_2(torch.cat((upsampled, stride16), 1))
        return (
            (self.cls_head_2(reduced16), self.reg_head_2(reduced16)),
            (self.cls_head_3(reduced32), self.reg_head_3(reduced32)),
        )
