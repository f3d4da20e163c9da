"""What the network's outputs cost: box, objectness and class loss of the original."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

from utils.boxes import EPSILON, paired_iou


class Losses(NamedTuple):
    """Weighted losses, scalars; `total` is what is minimised."""

    total: torch.Tensor
    box: torch.Tensor
    objectness: torch.Tensor
    classes: torch.Tensor


def match_counts(assignments):
    """[scales]: how many anchors are responsible for a box at each scale."""
    return torch.stack([assignment.matched.sum() for assignment in assignments])


def detection_loss(output, assignments, recipe, counts=None, share=1.0):
    """Loss of a batch, or of a part of one.

    Box loss is the mean of 1 − CIoU over the matches of a scale; class loss the mean cross-entropy over them,
    divided by the number of classes; objectness loss the mean binary cross-entropy over all anchors of all
    cells against 1 at the matches. Each is summed over the scales, objectness with recipe.scale_balance.

    Args:
        output: DetectorOutput.
        assignments: an Assignment a scale.
        recipe: Recipe, for the weights.
        counts: [scales], matches of the whole batch; those of `assignments` when this is the whole batch.
        share: the images here as a fraction of those of the whole batch.
    Returns:
        Losses; those of a batch's parts add up to the whole batch's.
    """
    counts = (match_counts(assignments) if counts is None else counts).clamp(min=1)
    box = objectness = classes = 0.0
    for scale, assignment, count, balance in zip(output, assignments, counts, recipe.scale_balance, strict=True):
        box = box + _box_loss(scale.boxes, assignment) / count
        classes = classes + _class_loss(scale.classes, assignment) / (count * scale.classes.shape[1])
        objectness = objectness + _objectness_loss(scale.objectness, assignment) * (balance * share)
    box = box * recipe.box_weight
    objectness = objectness * recipe.objectness_weight
    classes = classes * recipe.class_weight
    return Losses(box + objectness + classes, box, objectness, classes)


def complete_iou(boxes, targets):
    """CIoU of pairs of boxes (Zheng et al. 2020, arXiv:1911.08287, eq. 10); the trade-off α has no gradient.

    torchvision's function of that name selects by a mask, for which a CUDA device must be waited for.

    Args:
        boxes, targets: [n, 4], (cx, cy, w, h).
    Returns:
        [n], 1 for equal boxes, above −2.
    """
    iou = paired_iou(boxes, targets)
    hull_low = torch.minimum(boxes[:, :2] - boxes[:, 2:] / 2, targets[:, :2] - targets[:, 2:] / 2)
    hull_high = torch.maximum(boxes[:, :2] + boxes[:, 2:] / 2, targets[:, :2] + targets[:, 2:] / 2)
    diagonal = (hull_high - hull_low).square().sum(1) + EPSILON
    distance = (boxes[:, :2] - targets[:, :2]).square().sum(1)

    # Not a number in a candidate that does not match would still reach the gradient, so no height is zero.
    angle = torch.atan(targets[:, 2] / (targets[:, 3] + EPSILON)) - torch.atan(boxes[:, 2] / (boxes[:, 3] + EPSILON))
    shape = (2 / math.pi * angle).square()
    with torch.no_grad():
        trade_off = shape / (1 - iou + shape + EPSILON)
    return iou - distance / diagonal - trade_off * shape


def _box_loss(box_logits, assignment):
    """Sum of 1 − CIoU over the matches; box_logits: [N, 4·A, H, W]."""
    batch, channels, rows, columns = box_logits.shape
    anchors = channels // 4
    # index_select, because its gradient is summed in a fixed order; advanced indexing's is not, on many cores.
    flat = box_logits.view(batch, anchors, 4, rows, columns).permute(0, 1, 3, 4, 2).reshape(-1, 4)
    at = ((assignment.image * anchors + assignment.anchor) * rows + assignment.row) * columns + assignment.column
    predicted = flat.index_select(0, at).float().sigmoid()
    centres = predicted[:, :2] * 2 - 0.5
    sizes = (predicted[:, 2:] * 2).square() * assignment.anchor_sizes
    cost = 1 - complete_iou(torch.cat((centres, sizes), 1), assignment.boxes)
    return torch.where(assignment.matched, cost, 0).sum()


def _objectness_loss(logits, assignment):
    """Mean over all anchors of all cells; logits: [N, A, H, W]."""
    _, anchors, rows, columns = logits.shape
    at = ((assignment.image * anchors + assignment.anchor) * rows + assignment.row) * columns + assignment.column
    target = logits.new_zeros(logits.numel(), dtype=torch.float32)
    target.scatter_reduce_(0, at, assignment.matched.float(), "amax")
    return F.binary_cross_entropy_with_logits(logits.float(), target.view(logits.shape))


def _class_loss(logits, assignment):
    """Sum of the cross-entropy over the matches; logits: [N, C, H, W]."""
    _, classes, rows, columns = logits.shape
    flat = logits.permute(0, 2, 3, 1).reshape(-1, classes)
    at = (assignment.image * rows + assignment.row) * columns + assignment.column
    cost = F.cross_entropy(flat.index_select(0, at).float(), assignment.label, reduction="none")
    return torch.where(assignment.matched, cost, 0).sum()
