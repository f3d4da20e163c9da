"""An order of channels in which ShuffleNetV2's halves are neighbours, so that no block has to gather them.

A block lets the channels of even index pass and changes the others; what it changed comes behind what passed. To take
every second channel is slow in NCNN, while to lay two halves like cards, one of each in turn, is quick, and cutting in
the middle then gives the first halves of both and the second halves of both. So each convolution writes its channels
in the order of how many blocks they will pass, those that pass most first: then the first half of everything passes, at
every block. Nothing but the order of weights changes.
"""

from collections import Counter
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

STEM_PART = 8


class StageOrder(NamedTuple):
    """Of one stage; a list says for each place the number of the channel that comes there."""

    downsampled: list[list[int]]  # the halves that the first block puts together
    inputs: list[list[int]]  # a list a block: which of the channels that it changes
    outputs: list[list[int]]  # a list a block: which of the channels that it has changed
    stage: list[int]  # what leaves the stage


def stage_order(channels, blocks):
    """The order of channels in a stage.

    Args:
        channels: of the stage, a multiple of 4.
        blocks: that keep the shape.
    Returns:
        StageOrder.
    """
    half = channels // 2
    # A channel is (half, number): the two halves that the first block puts together, then what each block writes.
    halves = [[(number, channel) for channel in range(half)] for number in range(2 + blocks)]
    by_parity, known = _simulate(halves, blocks, lambda x: (x[0::2], x[1::2]))
    by_place, _ = _simulate(halves, blocks, _interleave_and_cut)
    ordered = [_matched(half, by_parity, by_place) for half in halves]
    _, found = _simulate(ordered, blocks, _interleave_and_cut)
    *inputs, stage = (
        [where.index(channel) for channel in channels] for where, channels in zip(known, found, strict=True)
    )
    outputs = [[channel for _, channel in half] for half in ordered]
    return StageOrder(outputs[:2], inputs, outputs[2:], stage)


def _matched(half, by_parity, by_place):
    """The channels of a half, those that pass most blocks in the places from which most are passed.

    Args:
        half: list of channels, which stand for places too.
        by_parity, by_place: {channel: blocks that it passes}, as in the network and from each place.
    """
    channels = sorted(half, key=by_parity.__getitem__, reverse=True)
    places = sorted(half, key=by_place.__getitem__, reverse=True)
    if any(by_parity[channel] != by_place[place] for channel, place in zip(channels, places, strict=True)):
        raise ValueError("expected as many channels to pass a block by their place as do by their number")
    at_place = dict(zip(places, channels, strict=True))
    return [at_place[place] for place in half]


def _simulate(halves, blocks, take):
    """{channel: blocks that it passes}, and a list a block of the channels that it changes, then all that are left."""
    x = halves[0] + halves[1]
    passes, changed = Counter(), []
    for block in range(blocks):
        passed, rest = take(x)
        passes.update(passed)
        changed.append(rest)
        x = passed + halves[2 + block]
    return passes, [*changed, x]


def _interleave_and_cut(x):
    half = len(x) // 2
    mixed = [channel for pair in zip(x[:half], x[half:], strict=True) for channel in pair]
    return mixed[:half], mixed[half:]


class InterleavingBlock(nn.Module):
    """A ShuffleBlock for channels in the order of `stage_order`: it mixes its halves and cuts them.

    Args:
        block: ShuffleBlock with its weights in that order.
    """

    def __init__(self, block):
        super().__init__()
        self.branch_main = block.branch_main

    def forward(self, x):
        batch, channels, height, width = x.shape
        mixed = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)
        passed, changed = mixed.chunk(2, 1)
        return torch.cat((passed, self.branch_main(changed)), 1)


class SplitStem(nn.Module):
    """The backbone's first convolution and pooling, STEM_PART output channels at a time.

    NCNN computes so few channels directly, without gathering each pixel's window first, and what is pooled next is
    still in the processor's cache: two thirds of the time.

    Args:
        backbone: ShuffleNetV2 in evaluation mode.
    """

    def __init__(self, backbone):
        super().__init__()
        whole = fuse_conv_bn_eval(*backbone.first_conv[:2])
        self.parts = nn.ModuleList()
        for first in range(0, whole.out_channels, STEM_PART):
            part = slice(first, first + STEM_PART)
            self.parts.append(_convolution(whole.weight[part], whole.bias[part], whole.stride, padding=0))
        self.margin = 2 * whole.padding  # left, right, top, bottom
        self.maxpool = backbone.maxpool

    def forward(self, images):
        images = F.pad(images, self.margin)  # once for all
        # The largest of some values is the same before and after ReLU, and there are four times fewer after.
        return torch.cat([self.maxpool(part(images)) for part in self.parts], 1).relu()


class EarlyReductionFPN(nn.Module):
    """A LightFPN that reduces the coarse features before it enlarges them, to a quarter of the multiplications.

    A 1x1 convolution of features that are enlarged and put beside others is the sum of two, and a pixel's copies need
    not be computed four times.

    Args:
        fpn: LightFPN in evaluation mode.
    """

    def __init__(self, fpn):
        super().__init__()
        self.fpn = fpn
        whole = fuse_conv_bn_eval(*fpn.conv1x1_2[:2])
        coarse = fpn.conv1x1_3[0].in_channels
        self.coarse = _convolution(whole.weight[:, :coarse], None)
        self.fine = _convolution(whole.weight[:, coarse:], whole.bias)

    def forward(self, stride16, stride32):
        enlarged = F.interpolate(self.coarse(stride32), scale_factor=2.0, mode="nearest")
        reduced16, reduced32 = (enlarged + self.fine(stride16)).relu(), self.fpn.conv1x1_3(stride32)
        return (
            (self.fpn.cls_head_2(reduced16), self.fpn.reg_head_2(reduced16)),
            (self.fpn.cls_head_3(reduced32), self.fpn.reg_head_3(reduced32)),
        )


def for_ncnn(detector):
    """Give a detector the form that NCNN runs fastest, in place; it computes the same.

    Args:
        detector: Detector.
    Returns:
        the detector, in evaluation mode.
    """
    detector.eval()
    backbone, fpn = detector.backbone, detector.fpn
    after2 = _reorder_stage(backbone.stage2)
    _take_inputs(backbone.stage3[0], after2)
    after3 = _reorder_stage(backbone.stage3)
    _take_inputs(backbone.stage4[0], after3)
    after4 = _reorder_stage(backbone.stage4)
    _reorder(fpn.conv1x1_3[0], inputs=after4)
    _reorder(fpn.conv1x1_2[0], inputs=[*after4, *(len(after4) + channel for channel in after3)])
    backbone.first_conv, backbone.maxpool = SplitStem(backbone), nn.Identity()
    detector.fpn = EarlyReductionFPN(fpn)
    return detector


def _reorder_stage(stage):
    """Put a stage's channels in the order of `stage_order` and its blocks into the form for it; the order it leaves."""
    down, *blocks = stage
    channels = 2 * blocks[0].branch_main[0].in_channels
    order = stage_order(channels, len(blocks))
    for branch, outputs in zip((down.branch_proj, down.branch_main), order.downsampled, strict=True):
        _reorder(branch[-3], branch[-2], outputs=outputs)
    for number, (block, inputs, outputs) in enumerate(zip(blocks, order.inputs, order.outputs, strict=True), 1):
        _reorder(block.branch_main[0], inputs=inputs)
        _reorder(block.branch_main[-3], block.branch_main[-2], outputs=outputs)
        stage[number] = InterleavingBlock(block)
    return order.stage


def _take_inputs(down, order):
    """Let a DownsampleBlock read channels in this order."""
    depthwise, norm, pointwise, *_ = down.branch_proj
    _reorder(depthwise, norm, outputs=order)
    _reorder(pointwise, inputs=order)
    _reorder(down.branch_main[0], inputs=order)


@torch.no_grad()
def _reorder(layer, norm=None, inputs=None, outputs=None):
    """Change the order of a convolution's input channels, or of its output channels and those of its BatchNorm."""
    if inputs is not None:
        layer.weight.copy_(layer.weight[:, inputs])
    if outputs is not None:
        layer.weight.copy_(layer.weight[outputs])
        for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            values.copy_(values[outputs])


def _convolution(weight, bias, stride=1, padding=0):
    """nn.Conv2d with these weights."""
    outputs, inputs, *kernel = weight.shape
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=bias is not None)
    layer.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer
