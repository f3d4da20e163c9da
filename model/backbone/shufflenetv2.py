"""ShuffleNetV2 backbone (Ma et al. 2018, arXiv:1807.11164), the width that Yolo-FastestV2 uses.

The channel shuffle sits in front of a block instead of behind it: a stride-1 block takes its two halves by
the parity of the channel. The released weights are trained in this order.
"""

import torch
from torch import nn

STEM_CHANNELS = 24
STAGE_CHANNELS = (48, 96, 192)
STAGE_REPEATS = (4, 8, 4)


def _pointwise(channels_in, channels_out):
    return nn.Conv2d(channels_in, channels_out, 1, bias=False)


def _depthwise3x3(channels, stride):
    return nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)


class DownsampleBlock(nn.Module):
    """Halves height and width: [N, in, H, W] to [N, out, H/2, W/2]; both branches see the whole input."""

    def __init__(self, channels_in, channels_out):
        super().__init__()
        middle = channels_out // 2
        main = channels_out - channels_in
        self.branch_main = nn.Sequential(
            _pointwise(channels_in, middle),
            nn.BatchNorm2d(middle),
            nn.ReLU(inplace=True),
            _depthwise3x3(middle, stride=2),
            nn.BatchNorm2d(middle),
            _pointwise(middle, main),
            nn.BatchNorm2d(main),
            nn.ReLU(inplace=True),
        )
        self.branch_proj = nn.Sequential(
            _depthwise3x3(channels_in, stride=2),
            nn.BatchNorm2d(channels_in),
            _pointwise(channels_in, channels_in),
            nn.BatchNorm2d(channels_in),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return torch.cat((self.branch_proj(x), self.branch_main(x)), 1)


class ShuffleBlock(nn.Module):
    """Keeps the shape [N, C, H, W]: channels of even index pass, those of odd index are transformed."""

    def __init__(self, channels):
        super().__init__()
        middle = channels // 2
        self.branch_main = nn.Sequential(
            _pointwise(middle, middle),
            nn.BatchNorm2d(middle),
            nn.ReLU(inplace=True),
            _depthwise3x3(middle, stride=1),
            nn.BatchNorm2d(middle),
            _pointwise(middle, middle),
            nn.BatchNorm2d(middle),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        if not self.training:
            return torch.cat((x[:, 0::2], self.branch_main(x[:, 1::2])), 1)
        passed, changed = split_by_parity(x)
        # A convolution keeps its input for the backward pass: a copy of the half, or the whole that it is part of.
        last = x.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        return torch.cat((passed, self.branch_main(changed.contiguous(memory_format=layout))), 1)


def split_by_parity(x):
    """Channels of even and of odd index, views: [N, C, H, W] to twice [N, C/2, H, W].

    As two slices, but their gradients come together in one pass over memory instead of five.
    """
    pairs = x.permute(0, 2, 3, 1).unflatten(3, (-1, 2))
    return tuple(half.permute(0, 3, 1, 2) for half in pairs.unbind(4))


class ShuffleNetV2(nn.Module):
    """Image to features at stride 16 and stride 32."""

    def __init__(self):
        super().__init__()
        self.first_conv = nn.Sequential(
            nn.Conv2d(3, STEM_CHANNELS, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(STEM_CHANNELS),
            nn.ReLU(inplace=True),
        )
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels_in = (STEM_CHANNELS, *STAGE_CHANNELS)
        self.stage2, self.stage3, self.stage4 = (
            nn.Sequential(
                DownsampleBlock(channels_in[stage], channels),
                *(ShuffleBlock(channels) for _ in range(repeats - 1)),
            )
            for stage, (channels, repeats) in enumerate(zip(STAGE_CHANNELS, STAGE_REPEATS, strict=True))
        )

    def forward(self, images):
        """
        Args:
            images: [N, 3, H, W], BGR, 0…1; H and W divisible by 32.
        Returns:
            stride 16: [N, 96, H/16, W/16]; stride 32: [N, 192, H/32, W/32].
        """
        x = self.maxpool(self.first_conv(images))
        stride16 = self.stage3(self.stage2(x))
        return stride16, self.stage4(stride16)
