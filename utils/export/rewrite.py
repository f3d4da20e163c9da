"""Rewrite a detector so that a runtime executes it faster, with the same results.

`slice_channels` is for ONNX and TFLite, `interleave_channels` is for NCNN; see `utils.export.channel_order`. Both
leave a backbone other than ShuffleNetV2 as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from model import DetectorOutput, ScaleOutput
from model.backbone.shufflenetv2 import DownsampleBlock, ShuffleBlock, ShuffleNetV2
from model.detector import Detector
from model.fpn import Head, LightFPN
from utils.export.channel_order import StageOrder, interleaved_order, sliced_order

STEM_PART_CHANNELS = 8  # output channels of each part of the stem


def slice_channels(detector: Detector) -> MergedDetector:
    """Return a rewritten copy of a detector, in evaluation mode.

    Each block reads one slice of each earlier tensor, and channels that only pass through are not copied.
    """
    return _rewrite(detector, SlicedStage)


def interleave_channels(detector: Detector) -> MergedDetector:
    """Return a rewritten copy of a detector, in evaluation mode.

    NCNN is slow at selecting every second channel and at short slices. It is fast at interleaving both halves of the
    channels and cutting the result in the middle, which selects the first half of each half.
    """
    rewritten = _rewrite(detector, InterleavedStage)
    backbone = rewritten.backbone
    if isinstance(backbone, ShuffleNetV2):
        backbone.first_conv, backbone.maxpool = SplitStem(backbone), nn.Identity()
    return rewritten


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


class MergedDetector(nn.Module):
    """A detector with fewer multiplications after the backbone.

    A 1×1 convolution of concatenated features is the sum of two convolutions. The one of the coarse features runs
    before they are upsampled, which needs a quarter of the multiplications: upsampling repeats each value four times.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        fpn = detector.fpn
        self.backbone = detector.backbone
        whole = fuse_conv_bn_eval(*fpn.conv1x1_2[:2])
        coarse = fpn.conv1x1_3[0].in_channels
        self.coarse = _convolution(whole.weight[:, :coarse], None)
        self.fine = _convolution(whole.weight[:, coarse:], whole.bias)
        self.reduce32 = fpn.conv1x1_3
        self.scale16 = MergedHeads(detector, fpn.cls_head_2, fpn.reg_head_2)
        self.scale32 = MergedHeads(detector, fpn.cls_head_3, fpn.reg_head_3)

    def forward(self, images: torch.Tensor) -> DetectorOutput:
        stride16, stride32 = self.backbone(images)
        upsampled = F.interpolate(self.coarse(stride32), scale_factor=2.0, mode="nearest")
        reduced16 = (upsampled + self.fine(stride16)).relu()
        return DetectorOutput(self.scale16(reduced16), self.scale32(self.reduce32(stride32)))


class MergedHeads(nn.Module):
    """Both heads of a scale and its output layers.

    There is no activation between the last convolution of a head and an output layer, so one convolution does both.
    Both scales of a Detector share the output layers; those of this module belong to one scale.
    """

    def __init__(self, detector: Detector, cls_head: Head, reg_head: Head) -> None:
        super().__init__()
        self.cls_head, self.reg_head = cls_head.block[:-2], reg_head.block[:-2]
        self.boxes = _merge(reg_head.block[-2:], detector.output_reg_layers)
        self.objectness = _merge(cls_head.block[-2:], detector.output_obj_layers)
        self.classes = _merge(cls_head.block[-2:], detector.output_cls_layers)

    def forward(self, features: torch.Tensor) -> ScaleOutput:
        class_features = self.cls_head(features)
        boxes = self.boxes(self.reg_head(features))
        return ScaleOutput(boxes, self.objectness(class_features), self.classes(class_features))


def _rewrite(
    detector: Detector, rewrite_stage: Callable[[nn.Sequential], InterleavedStage | SlicedStage]
) -> MergedDetector:
    detector = copy.deepcopy(detector).eval()
    if isinstance(detector.backbone, ShuffleNetV2):
        _rewrite_stages(detector.backbone, detector.fpn, rewrite_stage)
    return MergedDetector(detector)


def _rewrite_stages(
    backbone: ShuffleNetV2, fpn: LightFPN, rewrite_stage: Callable[[nn.Sequential], InterleavedStage | SlicedStage]
) -> None:
    """Rewrite the stages of the backbone, in place, and let the FPN read their channels in the new order."""
    backbone.stage2 = rewrite_stage(backbone.stage2)
    _reorder_inputs(backbone.stage3[0], backbone.stage2.order)
    backbone.stage3 = rewrite_stage(backbone.stage3)
    order16 = backbone.stage3.order
    _reorder_inputs(backbone.stage4[0], order16)
    backbone.stage4 = rewrite_stage(backbone.stage4)
    order32 = backbone.stage4.order
    _reorder(fpn.conv1x1_3[0], inputs=order32)
    _reorder(fpn.conv1x1_2[0], inputs=np.concatenate((order32, len(order32) + order16)))


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


def _merge(pointwise: nn.Sequential, output: nn.Conv2d) -> nn.Conv2d:
    """Merge a 1×1 convolution with BatchNorm and the 1×1 convolution that follows it."""
    first = fuse_conv_bn_eval(*pointwise)
    # In float64, so that the sums of products add no rounding errors to the weights.
    inner, outer = (layer.weight.flatten(1).double() for layer in (first, output))
    bias = outer @ first.bias.double() + output.bias.double()
    return _convolution((outer @ inner)[:, :, None, None].float(), bias.float())


def _convolution(weight: torch.Tensor, bias: torch.Tensor | None, stride: int | tuple[int, int] = 1) -> nn.Conv2d:
    """Create a convolution without padding from its weights."""
    outputs, inputs, *kernel = weight.shape
    layer = nn.Conv2d(inputs, outputs, kernel, stride, bias=bias is not None)
    layer.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer
