"""Rewrite a detector so that a runtime executes it faster, with the same results.

`slice_channels` is for ONNX and TFLite, `interleave_channels` is for NCNN; see `utils.export.channel_order`. Both
rewrite the ShuffleNetV2 backbone and the LightFPN of this project and leave any other backbone or FPN as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from model.backbone.shufflenetv2 import DownsampleBlock, ShuffleBlock, ShuffleNetV2
from model.detector import Detector
from model.fpn import LightFPN
from utils.export.channel_order import StageOrder, interleaved_order, sliced_order

STEM_PART_CHANNELS = 8  # output channels of each part of the stem


def slice_channels(detector: Detector) -> Detector:
    """Rewrite a detector in place, in evaluation mode, and return it.

    Each block reads one slice of each earlier tensor, and channels that only pass through are not copied.
    """
    _rewrite_stages(detector.eval(), SlicedStage)
    return detector


def interleave_channels(detector: Detector) -> Detector:
    """Rewrite a detector in place, in evaluation mode, and return it.

    NCNN is slow at selecting every second channel and at short slices. It is fast at interleaving both halves of the
    channels and cutting the result in the middle, which selects the first half of each half.
    """
    _rewrite_stages(detector.eval(), InterleavedStage)
    backbone = detector.backbone
    if isinstance(backbone, ShuffleNetV2):
        backbone.first_conv, backbone.maxpool = SplitStem(backbone), nn.Identity()
    return detector


class InterleavedStage(nn.Sequential):
    """A stage in the order of `interleaved_order`; `order` is the order of its outputs."""

    def __init__(self, stage: nn.Sequential) -> None:
        down, *blocks = stage
        super().__init__(down, *map(InterleavingBlock, blocks))
        order = interleaved_order(*_stage_size(stage))
        _reorder_stage(stage, order)
        self.order = order.stage


class InterleavingBlock(nn.Module):
    """A ShuffleBlock that interleaves and cuts its input, for weights in the order of `interleaved_order`."""

    def __init__(self, block: ShuffleBlock) -> None:
        super().__init__()
        self.branch_main = block.branch_main

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = x.shape
        mixed = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)
        passed, changed = mixed.chunk(2, 1)
        return torch.cat((passed, self.branch_main(changed)), 1)


class SlicedStage(nn.Module):
    """A stage in the order of `sliced_order`; `order` is the order of its outputs."""

    def __init__(self, stage: nn.Sequential) -> None:
        super().__init__()
        down, *blocks = stage
        self.branch_proj, self.branch_main = down.branch_proj, down.branch_main
        self.blocks = nn.ModuleList(block.branch_main for block in blocks)
        order, self.sizes = sliced_order(*_stage_size(stage))
        _reorder_stage(stage, order)
        self.order = order.stage

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inputs = [[] for _ in range(len(self.blocks) + 1)]  # slices per block, then those that leave the stage

        def distribute(values: torch.Tensor, sizes: Sequence[int]) -> None:
            users = [block for block, size in enumerate(sizes) if size]
            slices = values.split([sizes[block] for block in users], 1) if len(users) > 1 else [values]
            for block, part in zip(users, slices, strict=True):
                inputs[block].append(part)

        distribute(self.branch_proj(x), self.sizes[0])
        distribute(self.branch_main(x), self.sizes[1])
        for block, parts, sizes in zip(self.blocks, inputs, self.sizes[2:], strict=False):
            distribute(block(torch.cat(parts, 1)), sizes)
        return torch.cat(inputs[-1], 1)


class SplitStem(nn.Module):
    """The first convolution and pooling of the backbone, STEM_PART_CHANNELS output channels at a time.

    With so few channels, NCNN convolves without first copying the window of each pixel, and the input of the pooling
    fits into the processor's cache. This takes two thirds of the time of the whole convolution and pooling.
    """

    def __init__(self, backbone: ShuffleNetV2) -> None:
        super().__init__()
        whole = fuse_conv_bn_eval(*backbone.first_conv[:2])
        self.parts = nn.ModuleList()
        for first in range(0, whole.out_channels, STEM_PART_CHANNELS):
            part = slice(first, first + STEM_PART_CHANNELS)
            self.parts.append(_convolution(whole.weight[part], whole.bias[part], whole.stride))
        self.margin = 2 * whole.padding  # left, right, top, bottom
        self.maxpool = backbone.maxpool

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = F.pad(images, self.margin)  # once for all parts
        # Max pooling and ReLU can be swapped, and after pooling there are only a quarter of the values.
        return torch.cat([self.maxpool(part(images)) for part in self.parts], 1).relu()


class EarlyReductionFPN(nn.Module):
    """A LightFPN that reduces the coarse features before it upsamples them.

    A 1×1 convolution of concatenated features is the sum of two convolutions. Before upsampling, the convolution of the
    coarse features needs a quarter of the multiplications, because upsampling repeats each value four times.
    """

    def __init__(self, fpn: LightFPN) -> None:
        super().__init__()
        self.fpn = fpn
        whole = fuse_conv_bn_eval(*fpn.conv1x1_2[:2])
        coarse = fpn.conv1x1_3[0].in_channels
        self.coarse = _convolution(whole.weight[:, :coarse], None)
        self.fine = _convolution(whole.weight[:, coarse:], whole.bias)

    def forward(self, stride16: torch.Tensor, stride32: torch.Tensor) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
        upsampled = F.interpolate(self.coarse(stride32), scale_factor=2.0, mode="nearest")
        reduced16, reduced32 = (upsampled + self.fine(stride16)).relu(), self.fpn.conv1x1_3(stride32)
        return (
            (self.fpn.cls_head_2(reduced16), self.fpn.reg_head_2(reduced16)),
            (self.fpn.cls_head_3(reduced32), self.fpn.reg_head_3(reduced32)),
        )


def _rewrite_stages(detector: Detector, rewrite: Callable[[nn.Sequential], InterleavedStage | SlicedStage]) -> None:
    """Rewrite the stages of the backbone and the FPN."""
    backbone, fpn = detector.backbone, detector.fpn
    if not isinstance(backbone, ShuffleNetV2) or not isinstance(fpn, LightFPN):
        return
    backbone.stage2 = rewrite(backbone.stage2)
    _reorder_inputs(backbone.stage3[0], backbone.stage2.order)
    backbone.stage3 = rewrite(backbone.stage3)
    order16 = backbone.stage3.order
    _reorder_inputs(backbone.stage4[0], order16)
    backbone.stage4 = rewrite(backbone.stage4)
    order32 = backbone.stage4.order
    _reorder(fpn.conv1x1_3[0], inputs=order32)
    _reorder(fpn.conv1x1_2[0], inputs=np.concatenate((order32, len(order32) + order16)))
    detector.fpn = EarlyReductionFPN(fpn)


def _stage_size(stage: nn.Sequential) -> tuple[int, int]:
    """Return the count of channels and of ShuffleBlocks of a stage."""
    return 2 * stage[1].branch_main[0].in_channels, len(stage) - 1


def _reorder_stage(stage: nn.Sequential, order: StageOrder) -> None:
    """Reorder the weights of a stage."""
    down, *blocks = stage
    for branch, outputs in zip((down.branch_proj, down.branch_main), order.downsampled, strict=True):
        _reorder(branch[-3], branch[-2], outputs=outputs)
    for block, inputs, outputs in zip(blocks, order.inputs, order.outputs, strict=True):
        _reorder(block.branch_main[0], inputs=inputs)
        _reorder(block.branch_main[-3], block.branch_main[-2], outputs=outputs)


def _reorder_inputs(down: DownsampleBlock, order: np.ndarray) -> None:
    """Make a DownsampleBlock read channels in this order."""
    depthwise, norm, pointwise, *_ = down.branch_proj
    _reorder(depthwise, norm, outputs=order)
    _reorder(pointwise, inputs=order)
    _reorder(down.branch_main[0], inputs=order)


@torch.no_grad()
def _reorder(
    layer: nn.Conv2d,
    norm: nn.BatchNorm2d | None = None,
    inputs: np.ndarray | None = None,
    outputs: np.ndarray | None = None,
) -> None:
    """Reorder the input channels of a convolution, or its output channels together with its BatchNorm."""
    if inputs is not None:
        layer.weight.copy_(layer.weight[:, inputs])
    if outputs is not None:
        layer.weight.copy_(layer.weight[outputs])
        for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            values.copy_(values[outputs])


def _convolution(weight: torch.Tensor, bias: torch.Tensor | None, stride: int | tuple[int, int] = 1) -> nn.Conv2d:
    """Create a convolution without padding from its weights."""
    outputs, inputs, *kernel = weight.shape
    layer = nn.Conv2d(inputs, outputs, kernel, stride, bias=bias is not None)
    layer.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer
