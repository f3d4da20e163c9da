"""What a recipe minimises: an assignment of boxes to anchors together with its loss."""

from collections.abc import Callable
from dataclasses import dataclass

from utils.config import STRIDES
from utils.losses.assign import assign
from utils.losses.original import detection_loss, match_counts
from utils.losses.simota import box_count, candidates_of, cost_loss


@dataclass(frozen=True)
class Objective:
    prepare: Callable  # (images, targets, anchors) to what of the loss does not depend on the network
    counts: Callable  # of that: a tensor of sums over a batch that its loss is divided by
    loss: Callable  # (output, prepared, recipe, counts of the whole batch, share of its images) to Losses


def _assign_scales(images, targets, anchors):
    height, width = images.shape[2:]
    return [
        assign(targets, scale_anchors, stride, (height // stride, width // stride))
        for scale_anchors, stride in zip(anchors, STRIDES, strict=True)
    ]


OBJECTIVES = {
    "ratio": Objective(_assign_scales, match_counts, detection_loss),
    "cost": Objective(candidates_of, box_count, cost_loss),
}
