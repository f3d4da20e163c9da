"""Rewrite a detector so that NCNN runs it faster, with the same results.

This file assumes the ShuffleNetV2 backbone and the LightFPN of this project; the other exports do not.

A ShuffleBlock passes the channels with even indices through, changes the others, and appends the changed ones. NCNN is
slow at selecting every second channel. It is fast at interleaving both halves of the channels and cutting the result in
the middle, which selects the first half of each half. So the output channels of each convolution are sorted by the
number of blocks that pass them through, largest first: then every block selects the same channels as before, and only
the order of the weights changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from model.backbone.shufflenetv2 import DownsampleBlock, ShuffleBlock, ShuffleNetV2
from model.detector import Detector
from model.fpn import LightFPN

STEM_CHANNELS = 8  # output channels of each part of the stem

Channel = tuple[int, int]  # (half, index in the half), see `stage_order`


class StageOrder(NamedTuple):
    """Orders of channels in a stage: each list has the old channel index for each new position."""

    downsampled: list[list[int]]  # outputs of both branches of the first block
    inputs: list[list[int]]  # per block: the channels that it changes
    outputs: list[list[int]]  # per block: the channels that it has changed
    stage: list[int]  # outputs of the stage


def optimize_for_ncnn(detector: Detector) -> Detector:
    """Rewrite a detector in place, in evaluation mode, and return it."""
    detector.eval()
    backbone, fpn = detector.backbone, detector.fpn
    after2 = _reorder_stage(backbone.stage2)
    _reorder_inputs(backbone.stage3[0], after2)
    after3 = _reorder_stage(backbone.stage3)
    _reorder_inputs(backbone.stage4[0], after3)
    after4 = _reorder_stage(backbone.stage4)
    _reorder(fpn.conv1x1_3[0], inputs=after4)
    _reorder(fpn.conv1x1_2[0], inputs=[*after4, *(len(after4) + channel for channel in after3)])
    backbone.first_conv, backbone.maxpool = SplitStem(backbone), nn.Identity()
    detector.fpn = EarlyReductionFPN(fpn)
    return detector


class InterleavingBlock(nn.Module):
    """A ShuffleBlock that interleaves and cuts its input, for weights in the order of `stage_order`."""

    def __init__(self, block: ShuffleBlock) -> None:
        super().__init__()
        self.branch_main = block.branch_main

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = x.shape
        mixed = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)
        passed, changed = mixed.chunk(2, 1)
        return torch.cat((passed, self.branch_main(changed)), 1)


class SplitStem(nn.Module):
    """The first convolution and pooling of the backbone, STEM_CHANNELS output channels at a time.

    With this few channels, NCNN convolves without first copying the window of each pixel, and the input of the pooling
    fits into the processor's cache. This takes two thirds of the time.
    """

    def __init__(self, backbone: ShuffleNetV2) -> None:
        super().__init__()
        whole = fuse_conv_bn_eval(*backbone.first_conv[:2])
        self.parts = nn.ModuleList()
        for first in range(0, whole.out_channels, STEM_CHANNELS):
            part = slice(first, first + STEM_CHANNELS)
            self.parts.append(_convolution(whole.weight[part], whole.bias[part], whole.stride))
        self.margin = 2 * whole.padding  # left, right, top, bottom
        self.maxpool = backbone.maxpool

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = F.pad(images, self.margin)  # once for all parts
        # Max pooling and ReLU can be swapped, and after pooling there are only a quarter of the values.
        return torch.cat([self.maxpool(part(images)) for part in self.parts], 1).relu()


class EarlyReductionFPN(nn.Module):
    """A LightFPN that reduces the coarse features before it upsamples them, with a quarter of the multiplications.

    A 1×1 convolution of concatenated features is the sum of two convolutions. After upsampling, the one of the coarse
    features would compute each value four times.
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


def stage_order(channels: int, blocks: int) -> StageOrder:
    """Compute the order of channels in a stage.

    Args:
        channels: of the stage, a multiple of 4.
        blocks: number of ShuffleBlocks.
    """
    half = channels // 2
    # Halves 0 and 1 are the outputs of the first block, half 2 + n holds the channels that block n writes.
    halves = [[(half_index, index) for index in range(half)] for half_index in range(2 + blocks)]
    passes, before = _simulate(halves, lambda x: (x[0::2], x[1::2]))
    sorted_halves = [sorted(half, key=passes.__getitem__, reverse=True) for half in halves]
    _, after = _simulate(sorted_halves, _interleave_and_cut)
    *inputs, stage = ([old.index(channel) for channel in new] for old, new in zip(before, after, strict=True))
    outputs = [[index for _, index in half] for half in sorted_halves]
    return StageOrder(outputs[:2], inputs, outputs[2:], stage)


def _simulate(
    halves: list[list[Channel]], split: Callable[[list[Channel]], tuple[list[Channel], list[Channel]]]
) -> tuple[Counter[Channel], list[list[Channel]]]:
    """Follow channels through the blocks of a stage; `split` returns (passed, changed) channels of a block.

    Returns:
        (number of blocks that each channel passes through; changed channels per block, then the stage's outputs)
    """
    x = halves[0] + halves[1]
    passes, changes = Counter(), []
    for written in halves[2:]:
        passed, changed = split(x)
        passes.update(passed)
        changes.append(changed)
        x = passed + written
    return passes, [*changes, x]


def _interleave_and_cut(x: list[Channel]) -> tuple[list[Channel], list[Channel]]:
    half = len(x) // 2
    mixed = [channel for pair in zip(x[:half], x[half:], strict=True) for channel in pair]
    return mixed[:half], mixed[half:]


def _reorder_stage(stage: nn.Sequential) -> list[int]:
    """Apply `stage_order` to a stage, replace its ShuffleBlocks, and return the order of its outputs."""
    down, *blocks = stage
    order = stage_order(2 * blocks[0].branch_main[0].in_channels, len(blocks))
    for branch, outputs in zip((down.branch_proj, down.branch_main), order.downsampled, strict=True):
        _reorder(branch[-3], branch[-2], outputs=outputs)
    for index, (block, inputs, outputs) in enumerate(zip(blocks, order.inputs, order.outputs, strict=True), 1):
        _reorder(block.branch_main[0], inputs=inputs)
        _reorder(block.branch_main[-3], block.branch_main[-2], outputs=outputs)
        stage[index] = InterleavingBlock(block)
    return order.stage


def _reorder_inputs(down: DownsampleBlock, order: Sequence[int]) -> None:
    """Make a DownsampleBlock read channels in this order."""
    depthwise, norm, pointwise, *_ = down.branch_proj
    _reorder(depthwise, norm, outputs=order)
    _reorder(pointwise, inputs=order)
    _reorder(down.branch_main[0], inputs=order)


@torch.no_grad()
def _reorder(
    layer: nn.Conv2d,
    norm: nn.BatchNorm2d | None = None,
    inputs: Sequence[int] | None = None,
    outputs: Sequence[int] | None = None,
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
