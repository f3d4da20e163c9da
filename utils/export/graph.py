"""The network as it is exported: activated, one output a scale or one for the detections."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops import box_convert, nms

from utils.export.channel_order import stage_order
from utils.postprocess import MAX_DETECTIONS, activate, decode

STEM_PART = 8


class ActivatedDetector(nn.Module):
    """Images to a map a scale, ready to be decoded: sigmoid and softmax are inside.

    Args:
        detector: Detector.
    """

    def __init__(self, detector):
        super().__init__()
        self.detector = detector.eval()

    def forward(self, images):
        """
        Args:
            images: [N, 3, H, W], BGR, 0…1.
        Returns:
            [N, H/16, W/16, 4·A + A + C] and [N, H/32, W/32, 4·A + A + C].
        """
        return tuple(torch.cat(scale, 1).permute(0, 2, 3, 1) for scale in activate(self.detector(images)))


class EndToEndDetector(nn.Module):
    """One image to its detections: decoding and suppression are inside, as `utils.postprocess.detect` does them.

    Args:
        detector: Detector.
        anchors: [2][A][2], width and height in input pixels.
        size: (width, height) of the input.
        conf, iou, max_det: as in `detect`.
    """

    def __init__(self, detector, anchors, size, conf, iou, max_det=MAX_DETECTIONS):
        super().__init__()
        self.detector = detector.eval()
        self.conf, self.iou, self.max_det = conf, iou, max_det
        self.register_buffer("anchors", torch.tensor(anchors))
        # Boxes of different classes are moved further apart than any two boxes can be, so that one pass suppresses
        # within each class. Of a fixed distance the largest side counts: four times an anchor's.
        self.class_distance = float(max(size) + 2 * 4 * self.anchors.max() + 1)

    def forward(self, image):
        """
        Args:
            image: [1, 3, H, W], BGR, 0…1.
        Returns:
            [n, 6], (x1, y1, x2, y2, score, class) in input pixels, best first.
        """
        predictions = decode(activate(self.detector(image)), (self.anchors[0], self.anchors[1]))
        boxes, _, scores, labels = (values[0] for values in predictions)
        kept = (scores > self.conf).nonzero().squeeze(1)
        boxes, scores, labels = box_convert(boxes[kept], "cxcywh", "xyxy"), scores[kept], labels[kept].to(boxes.dtype)
        moved = boxes + labels.unsqueeze(1) * self.class_distance
        best = nms(moved, scores, self.iou)[: self.max_det]
        return torch.cat((boxes[best], scores[best].unsqueeze(1), labels[best].unsqueeze(1)), 1)


class InterleavingBlock(nn.Module):
    """A ShuffleBlock for channels in the order of `utils.export.channel_order`: it mixes its halves and cuts them.

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
