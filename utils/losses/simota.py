"""The default recipe's loss: SimOTA (Ge et al. 2021, YOLOX, arXiv:2107.08430, section 2.1).

Each box is matched to the predictions with the lowest matching cost. Objectness learns the IoU of its prediction, so
that scores rank boxes by how accurate they are.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

from model import STRIDES, DetectorOutput
from utils.boxes import EPSILON, complete_iou, decode_boxes, paired_iou, shape_iou, side_ratio
from utils.losses import PADDING, Losses, constant, weighted
from utils.postprocess import Anchors

if TYPE_CHECKING:
    from utils.training.recipe import Recipe

MAX_RATIO = 4.0  # between the sides of box and anchor: a decoded side is at most 4 times the anchor's
IOU_COST = 3.0  # weight of −log IoU next to −log score in the matching cost, as in YOLOX
TOP_IOUS = 10  # the count of matches of a box is the sum of this many best IoUs
_NEVER = 1e6  # matching cost of a prediction that is not allowed


class PossibleMatches(NamedTuple):
    """The K predictions that could be matched to each of M boxes, K = 4 cells · A anchors · scales.

    Predictions and cells are indexed over the whole batch, in the order image, scale, row, column, anchor. K is
    constant, so nothing here waits for the device.
    """

    allowed: torch.Tensor  # [M, K] bool; the others are padding
    anchor: torch.Tensor  # [M, K] index of the prediction
    cell: torch.Tensor  # [M, K] index of the cell
    positions: torch.Tensor  # [M, K, 2] column and row of the cell
    strides: torch.Tensor  # [K, 1] input pixels per cell
    anchor_sizes: torch.Tensor  # [K, 2] width and height in input pixels
    boxes: torch.Tensor  # [M, 4] (cx, cy, w, h) in input pixels
    class_ids: torch.Tensor  # [M]; PADDING: not a box


class SimotaLoss:
    """CIoU, objectness and class loss per box.

    The box loss is the sum of 1 − CIoU over the matches; the class loss is the sum of the cross-entropy over them; the
    objectness loss is the sum of the quality focal loss over all anchors of all cells, with the IoU as target at the
    matches and 0 elsewhere. Each is divided by the count of boxes, or the count of images if that is larger.
    """

    def __init__(self, recipe: Recipe, anchors: Anchors) -> None:
        self.recipe, self.anchors = recipe, anchors

    def prepare(self, targets: torch.Tensor, image_size: tuple[int, int]) -> PossibleMatches:
        """Find the predictions that can reach each box of a batch.

        A decoded center is at most half a cell outside its cell, so the cells of two columns and two rows can reach a
        box. The box's sides must be within MAX_RATIO of the anchor's. A box that fits no anchor may be matched to the
        anchors with the highest shape IoU, so that each box has a possible match.

        Args:
            targets: [M, 6] (image, class id, cx, cy, w, h), normalized.
            image_size: (height, width) in pixels.
        """
        # The dimensions of the tensors are M boxes, S scales, 4 cells, A anchors.
        height, width = image_size
        grids = tuple((width // stride, height // stride) for stride in STRIDES)
        cell_counts = [columns * rows for columns, rows in grids]
        first_cells = tuple(itertools.accumulate(cell_counts[:-1], initial=0))
        size = constant((width, height), targets)
        strides = constant(STRIDES, targets)[:, None, None]  # [S, 1, 1]
        anchors = constant(self.anchors, targets)  # [S, A, 2]
        neighbors = constant(tuple(itertools.product((-1, 0), repeat=2)), targets)  # [4, 2]
        images = targets[:, :1].long()
        grid = constant(grids, images)[:, None]  # [S, 1, 2]

        centers, sizes = targets[:, 2:4] * size, targets[:, 4:6] * size
        positions = (centers[:, None, None] / strides + 0.5).floor() + neighbors  # [M, S, 4, 2]
        inside = ((positions >= 0) & (positions < grid)).all(3)  # [M, S, 4]
        inside = inside & (targets[:, 1] != PADDING)[:, None, None]
        positions = positions.clamp(min=0).minimum(grid - 1)
        column, row = positions.long().unbind(3)
        first = images * sum(cell_counts) + constant(first_cells, images)  # [M, S]
        cells = first[:, :, None] + row * grid[..., 0] + column  # [M, S, 4]

        shape = (*cells.shape, anchors.shape[1])  # [M, S, 4, A]
        anchor_sizes = anchors[:, None].expand(-1, 4, -1, -1).flatten(0, 2)
        return PossibleMatches(
            allowed=_allowed(inside[..., None].expand(shape).flatten(1), sizes, anchor_sizes),
            anchor=(cells[..., None] * shape[3] + torch.arange(shape[3], device=targets.device)).flatten(1),
            cell=cells[..., None].expand(shape).flatten(1),
            positions=positions[..., None, :].expand(*shape, 2).flatten(1, 3),
            strides=strides.expand(shape[1:]).reshape(-1, 1),
            anchor_sizes=anchor_sizes,
            boxes=torch.cat((centers, sizes), 1),
            class_ids=targets[:, 1].long(),
        )

    def count(self, prepared: PossibleMatches) -> torch.Tensor:
        """Count the boxes: [1]."""
        return (prepared.class_ids != PADDING).sum(0, keepdim=True, dtype=torch.float32)

    def __call__(
        self, output: DetectorOutput, prepared: PossibleMatches, count: torch.Tensor, share: float = 1.0
    ) -> Losses:
        """Compute the losses of a batch, or of a part of one; the parts add up to the whole batch.

        Args:
            count: [1] boxes in the whole batch.
            share: images in this part as a fraction of the images in the whole batch.
        """
        images = len(output[0].objectness) / share
        count = count.clamp(min=images).squeeze()
        box_logits, objectness, class_logits = flatten_output(output)
        boxes = decode_matches(box_logits, prepared)  # [M, K, 4]
        logits = class_logits.index_select(0, prepared.cell.flatten()).view(*prepared.cell.shape, class_logits.shape[1])
        targets = prepared.boxes[:, None].expand_as(boxes)
        class_ids = prepared.class_ids.clamp(min=0)[:, None].expand_as(prepared.cell)
        class_losses = F.cross_entropy(logits.flatten(0, 1), class_ids.flatten(), reduction="none").view_as(class_ids)
        iou = paired_iou(boxes.detach(), targets)
        matched = select_matches(prepared, iou, class_losses.detach(), objectness.detach())

        box_losses = 1 - complete_iou(boxes.flatten(0, 1), targets.flatten(0, 1)).view_as(iou)
        box = torch.where(matched, box_losses, 0).sum()
        classes = torch.where(matched, class_losses, 0).sum()
        target = torch.zeros_like(objectness)
        target.scatter_reduce_(0, prepared.anchor.flatten(), torch.where(matched, iou, 0).flatten(), "amax")
        objectness = quality_focal_loss(objectness, target, self.recipe.focal_power).sum()

        recipe = self.recipe
        return weighted(
            box * (recipe.box_weight / count),
            objectness * (recipe.objectness_weight / count),
            classes * (recipe.class_weight / count),
        )


def quality_focal_loss(logits: torch.Tensor, target: torch.Tensor, power: float) -> torch.Tensor:
    """Compute the binary cross-entropy, weighted by a power of the difference between probability and target.

    This is the quality focal loss (Li et al. 2020, arXiv:2006.04388) with a weight that has no gradient. The many
    predictions that are close to their target contribute little, so the other losses count more.

    Args:
        logits, target: tensors of the same shape; targets are from 0 to 1.
        power: β in the paper; with 0 all weights are 1.
    """
    weight = (logits.detach().sigmoid() - target).abs() ** power
    return weight * F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def _allowed(inside: torch.Tensor, sizes: torch.Tensor, anchor_sizes: torch.Tensor) -> torch.Tensor:
    """Return [M, K] bool: `inside`, and the anchor has a similar shape, or the most similar one if none has."""
    fits = inside & (side_ratio(sizes, anchor_sizes) < MAX_RATIO)
    iou = torch.where(inside, shape_iou(sizes, anchor_sizes), -1)
    nearest = inside & (iou == iou.amax(1, keepdim=True))
    return fits | (nearest & ~fits.any(1, keepdim=True))


@torch.no_grad()
def select_matches(
    possible: PossibleMatches, iou: torch.Tensor, class_losses: torch.Tensor, objectness: torch.Tensor
) -> torch.Tensor:
    """Select the matches of each box: [M, K] bool.

    The count of matches of a box is the sum of its TOP_IOUS best IoUs, rounded, at least 1. The box is matched to the
    predictions with the lowest cost, −log score − IOU_COST · log IoU. A prediction that several boxes select is matched
    to the box with the lowest cost (to all of them if the costs are equal).

    Args:
        iou: [M, K] of the predictions with the box.
        class_losses: [M, K] −log of the probability of the box's class.
        objectness: [predictions of the batch] logits.
    """
    index = possible.anchor.flatten()
    logits = objectness.index_select(0, index).view_as(iou)
    cost = class_losses - F.logsigmoid(logits) - IOU_COST * (iou + EPSILON).log()
    cost = torch.where(possible.allowed, cost, _NEVER)
    top = torch.where(possible.allowed, iou, 0).topk(min(TOP_IOUS, iou.shape[1]), 1).values
    count = top.sum(1, keepdim=True).round().clamp(min=1)
    wanted = possible.allowed & (cost.argsort(dim=1, stable=True).argsort(dim=1) < count)
    lowest = torch.full_like(objectness, _NEVER)
    lowest.scatter_reduce_(0, index, torch.where(wanted, cost, _NEVER).flatten(), "amin")
    return wanted & (cost <= lowest.index_select(0, index).view_as(cost))


def flatten_output(output: DetectorOutput) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the logits in the order of PossibleMatches: boxes [P, 4], objectness [P], classes [cells, C]."""
    boxes, objectness, classes = [], [], []
    for scale in output:
        batch, count, rows, columns = scale.objectness.shape
        scale_boxes = scale.boxes.view(batch, count, 4, rows, columns).permute(0, 3, 4, 1, 2)
        boxes.append(scale_boxes.reshape(batch, -1, 4))
        objectness.append(scale.objectness.permute(0, 2, 3, 1).reshape(batch, -1))
        classes.append(scale.classes.permute(0, 2, 3, 1).reshape(batch, rows * columns, -1))
    return (
        torch.cat(boxes, 1).flatten(0, 1).float(),
        torch.cat(objectness, 1).flatten().float(),
        torch.cat(classes, 1).flatten(0, 1).float(),
    )


def decode_matches(box_logits: torch.Tensor, possible: PossibleMatches) -> torch.Tensor:
    """Return the [M, K, 4] predicted boxes (cx, cy, w, h) in input pixels."""
    # index_select sums its gradient in a fixed order; indexing with a tensor does not if there are many threads.
    activated = box_logits.index_select(0, possible.anchor.flatten()).sigmoid().view(*possible.anchor.shape, 4)
    return decode_boxes(activated, possible.positions, possible.anchor_sizes, possible.strides)
