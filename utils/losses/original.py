"""The original's assignment of boxes to anchors, and its loss.

A box matches an anchor if neither side differs from the anchor's side by a factor of 2 or more. That anchor is then
responsible for the box in the cell of the box's center, and in the nearer neighbor cell along each axis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

from model import STRIDES, DetectorOutput
from utils.anchors import MATCH_RATIO
from utils.boxes import complete_iou, decode_boxes, side_ratio
from utils.losses import PADDING, Losses, constant, weighted
from utils.postprocess import Anchors

if TYPE_CHECKING:
    from utils.training.recipe import Recipe

# From a box's center to points in its responsible cells, in cells: own, left, above, right, below.
OFFSETS = ((0.0, 0.0), (-0.5, 0.0), (0.0, -0.5), (0.5, 0.0), (0.0, 0.5))


class Matches(NamedTuple):
    """The K possible matches of one scale, K = 5 offsets · A anchors · M targets.

    K depends only on the number of targets, so nothing here waits for the device.
    """

    matched: torch.Tensor  # [K] bool, whether the anchor is responsible for the box
    image: torch.Tensor  # [K] index in the batch
    anchor: torch.Tensor  # [K] index of the anchor
    row: torch.Tensor  # [K]
    column: torch.Tensor  # [K]
    class_id: torch.Tensor  # [K]
    boxes: torch.Tensor  # [K, 4] (cx, cy, w, h) in cells, the center relative to the responsible cell
    anchor_sizes: torch.Tensor  # [K, 2] width and height in cells


class OriginalLoss:
    """CIoU, objectness and class loss, each summed over the scales.

    The box loss is the mean of 1 − CIoU over the matches of a scale; the class loss is the mean cross-entropy over
    them, divided by the number of classes; the objectness loss is the mean binary cross-entropy over all anchors of all
    cells, with target 1 at the matches, multiplied by `recipe.scale_balance`.
    """

    def __init__(self, recipe: Recipe, anchors: Anchors) -> None:
        self.recipe, self.anchors = recipe, anchors

    def prepare(self, targets: torch.Tensor, image_size: tuple[int, int]) -> list[Matches]:
        """Match the targets of a batch with the anchors of each scale.

        Args:
            targets: [M, 6] (image, class id, cx, cy, w, h), normalized.
            image_size: (height, width) in pixels.
        """
        height, width = image_size
        return [
            match_targets(targets, anchors, stride, (height // stride, width // stride))
            for anchors, stride in zip(self.anchors, STRIDES, strict=True)
        ]

    def count(self, prepared: list[Matches]) -> torch.Tensor:
        """Count the matches of each scale: [scales]."""
        return torch.stack([matches.matched.sum() for matches in prepared])

    def __call__(
        self, output: DetectorOutput, prepared: list[Matches], counts: torch.Tensor, share: float = 1.0
    ) -> Losses:
        """Compute the losses of a batch, or of a part of one; the parts add up to the whole batch.

        Args:
            counts: [scales] matches in the whole batch.
            share: images in this part as a fraction of the images in the whole batch.
        """
        recipe, counts = self.recipe, counts.clamp(min=1)
        box = objectness = classes = 0.0
        for scale, matches, count, balance in zip(output, prepared, counts, recipe.scale_balance, strict=True):
            box = box + _box_loss(scale.boxes, matches) / count
            classes = classes + _class_loss(scale.classes, matches) / (count * scale.classes.shape[1])
            objectness = objectness + _objectness_loss(scale.objectness, matches) * (balance * share)
        return weighted(box * recipe.box_weight, objectness * recipe.objectness_weight, classes * recipe.class_weight)


def match_targets(
    targets: torch.Tensor, anchors: tuple[tuple[float, float], ...], stride: int, grid: tuple[int, int]
) -> Matches:
    """Match the targets of a batch with the anchors of one scale.

    Args:
        targets: [M, 6] (image, class id, cx, cy, w, h), normalized.
        anchors: [A, 2] width and height in input pixels.
        stride: input pixels per cell.
        grid: (rows, columns) of the scale.
    """
    rows, columns = grid
    size = constant((columns, rows), targets)
    anchors = constant(anchors, targets) / stride
    offsets = constant(OFFSETS, targets)
    centers, sizes = targets[:, 2:4] * size, targets[:, 4:6] * size
    fits = side_ratio(sizes, anchors).T < MATCH_RATIO  # [A, M]

    near_start = (centers % 1 < 0.5) & (centers > 1)  # [M, 2]: left, above
    from_end = size - centers
    near_end = (from_end % 1 < 0.5) & (from_end > 1)  # right, below
    own = torch.ones_like(near_start[:, :1])
    reached = torch.cat((own, near_start, near_end), 1).T  # [5, M]

    matched = reached[:, None] & fits & (targets[:, 1] != PADDING)  # [5, A, M]
    cells = (centers + offsets[:, None]).floor().clamp(min=0).minimum(size - 1)  # [5, M, 2]
    boxes = torch.cat((centers - cells, sizes.expand_as(cells)), 2)
    cells = cells.long()

    def flat(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.expand(*matched.shape, *tensor.shape[3:]).flatten(0, 2)

    return Matches(
        matched=matched.flatten(),
        image=flat(targets[None, None, :, 0].long()),
        anchor=flat(torch.arange(len(anchors), device=targets.device)[None, :, None]),
        row=flat(cells[:, None, :, 1]),
        column=flat(cells[:, None, :, 0]),
        class_id=flat(targets[None, None, :, 1].long().clamp(min=0)),
        boxes=flat(boxes[:, None]),
        anchor_sizes=flat(anchors[None, :, None]),
    )


def _prediction_index(matches: Matches, anchors: int, rows: int, columns: int) -> torch.Tensor:
    """Return the [K] index of each match in predictions in the order image, anchor, row, column."""
    return ((matches.image * anchors + matches.anchor) * rows + matches.row) * columns + matches.column


def _box_loss(box_logits: torch.Tensor, matches: Matches) -> torch.Tensor:
    """Sum 1 − CIoU over the matches; box_logits: [N, 4·A, H, W]."""
    batch, channels, rows, columns = box_logits.shape
    anchors = channels // 4
    flat = box_logits.view(batch, anchors, 4, rows, columns).permute(0, 1, 3, 4, 2).reshape(-1, 4)
    # index_select sums its gradient in a fixed order; indexing with a tensor does not if there are many threads.
    logits = flat.index_select(0, _prediction_index(matches, anchors, rows, columns)).float()
    # In cells, relative to the responsible cell.
    boxes = decode_boxes(logits.sigmoid(), torch.zeros_like(matches.anchor_sizes), matches.anchor_sizes, 1)
    return torch.where(matches.matched, 1 - complete_iou(boxes, matches.boxes), 0).sum()


def _objectness_loss(logits: torch.Tensor, matches: Matches) -> torch.Tensor:
    """Average the binary cross-entropy over all anchors of all cells; logits: [N, A, H, W]."""
    _, anchors, rows, columns = logits.shape
    target = logits.new_zeros(logits.numel(), dtype=torch.float32)
    target.scatter_reduce_(0, _prediction_index(matches, anchors, rows, columns), matches.matched.float(), "amax")
    return F.binary_cross_entropy_with_logits(logits.float(), target.view(logits.shape))


def _class_loss(logits: torch.Tensor, matches: Matches) -> torch.Tensor:
    """Sum the cross-entropy over the matches; logits: [N, C, H, W]."""
    _, classes, rows, columns = logits.shape
    flat = logits.permute(0, 2, 3, 1).reshape(-1, classes)
    cells = (matches.image * rows + matches.row) * columns + matches.column
    loss = F.cross_entropy(flat.index_select(0, cells).float(), matches.class_id, reduction="none")
    return torch.where(matches.matched, loss, 0).sum()
