"""ShuffleNetV2 backbone (Ma et al. 2018, arXiv:1807.11164), the width that Yolo-FastestV2 uses.

The channel shuffle comes before a block instead of after it: a block with stride 1 splits its input into channels of
even and of odd index. The released weights were trained in this order.
"""

import torch
from torch import nn

STEM_CHANNELS = 24
STAGE_CHANNELS = (48, 96, 192)
STAGE_REPEATS = (4, 8, 4)


def _pointwise(channels_in: int, channels_out: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 1, bias=False)


def _depthwise3x3(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)


class DownsampleBlock(nn.Module):
    """Halves height and width: [N, in, H, W] to [N, out, H/2, W/2]; both branches see the whole input."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat((self.branch_proj(x), self.branch_main(x)), 1)


class ShuffleBlock(nn.Module):
    """Keeps the shape [N, C, H, W]: channels of even index pass unchanged, those of odd index are transformed."""

    def __init__(self, channels: int) -> None:
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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return torch.cat((x[:, 0::2], self.branch_main(x[:, 1::2])), 1)
        passed, changed = split_by_parity(x)
        # A convolution keeps its input for the backward pass. Without the copy, this would keep the other half too.
        last = x.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        return torch.cat((passed, self.branch_main(changed.contiguous(memory_format=layout))), 1)


def split_by_parity(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Split [N, C, H, W] into the channels of even and of odd index, two views [N, C/2, H, W].

    Slicing gives the same, but the backward pass then goes over the memory five times instead of once.
    """
    pairs = x.permute(0, 2, 3, 1).unflatten(3, (-1, 2))
    return tuple(half.permute(0, 3, 1, 2) for half in pairs.unbind(4))


class ShuffleNetV2(nn.Module):
    """Images to features at stride 16 and at stride 32."""

    out_channels = STAGE_CHANNELS[1:]

    def __init__(self) -> None:
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

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the features at stride 16, [N, 96, H/16, W/16], and at stride 32, [N, 192, H/32, W/32].

        Args:
            images: [N, 3, H, W], BGR, 0…1; H and W divisible by 32.
        """
        x = self.maxpool(self.first_conv(images))
        stride16 = self.stage3(self.stage2(x))
        return stride16, self.stage4(stride16)
