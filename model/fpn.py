"""The light feature pyramid with decoupled heads of Yolo-FastestV2."""

import torch
import torch.nn.functional as F
from torch import nn

WIDTH = 72  # channels of all features after the pyramid

Features = tuple[torch.Tensor, torch.Tensor]  # class features, box features


class Head(nn.Module):
    """Two depthwise-separable 5×5 convolutions: [N, C, H, W] to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(*_separable5x5(channels), *_separable5x5(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x)


def _separable5x5(channels: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(channels, channels, 5, padding=2, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    )


def _reduce(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class LightFPN(nn.Module):
    """Convert the backbone's features to the inputs of the output layers. `_2` in a name is stride 16, `_3` stride 32.

    Args:
        channels16, channels32: channels of the backbone's features at each stride.
    """

    def __init__(self, channels16: int, channels32: int) -> None:
        super().__init__()
        self.conv1x1_2 = _reduce(channels16 + channels32, WIDTH)
        self.conv1x1_3 = _reduce(channels32, WIDTH)
        self.cls_head_2 = Head(WIDTH)
        self.reg_head_2 = Head(WIDTH)
        self.reg_head_3 = Head(WIDTH)
        self.cls_head_3 = Head(WIDTH)

    def forward(self, stride16: torch.Tensor, stride32: torch.Tensor) -> tuple[Features, Features]:
        """Compute class and box features at stride 16 and at stride 32, each [N, WIDTH, ·, ·].

        Args:
            stride16: [N, channels16, H/16, W/16].
            stride32: [N, channels32, H/32, W/32].
        """
        reduced32 = self.conv1x1_3(stride32)
        upsampled = F.interpolate(stride32, scale_factor=2.0, mode="nearest")
        reduced16 = self.conv1x1_2(torch.cat((upsampled, stride16), 1))
        return (
            (self.cls_head_2(reduced16), self.reg_head_2(reduced16)),
            (self.cls_head_3(reduced32), self.reg_head_3(reduced32)),
        )
