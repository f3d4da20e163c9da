"""Loss with an assignment by cost: what predicts a box best already is what is taught to predict it.

The assignment is SimOTA's (Ge et al. 2021, YOLOX, arXiv:2107.08430, section 2.1) among `utils.losses.candidates`;
objectness learns the IoU of what it speaks for, so that scores order boxes by how well they lie.
"""

import torch
import torch.nn.functional as F

from utils.boxes import EPSILON, paired_iou
from utils.losses.candidates import find_candidates
from utils.losses.original import Losses, complete_iou

IOU_COST = 3.0  # weight of −log IoU beside −log score, as in YOLOX
COUNTED = 10  # candidates whose IoU adds up to the number of anchors that a box gets
_NEVER = 1e6  # cost of what is not allowed


def candidates_of(images, targets, anchors):
    """What of the loss does not depend on the network: [Candidates], see `find_candidates`."""
    return find_candidates(targets, anchors, images.shape[2:])


def box_count(candidates):
    """[1]: boxes in the images."""
    return torch.tensor([float(len(candidates.labels))], device=candidates.labels.device)


def cost_loss(output, candidates, recipe, count, share=1.0):
    """Loss of a batch, or of a part of one, a box.

    Box loss is the sum of 1 − CIoU over the anchors chosen, class loss that of the cross-entropy over them; objectness
    loss the sum of the binary cross-entropy over all anchors of all cells, against the IoU at those chosen and 0
    elsewhere. Each is divided by the number of boxes, or by that of images where there are fewer boxes.

    Args:
        output: DetectorOutput.
        candidates: Candidates.
        recipe: Recipe, for the weights.
        count: [1], boxes of the whole batch.
        share: the images here as a fraction of those of the whole batch.
    Returns:
        Losses; those of a batch's parts add up to the whole batch's.
    """
    images = len(output[0].objectness) / share
    count = count.clamp(min=images).squeeze()
    box_logits, objectness, class_logits = _flatten(output)
    boxes = _decode(box_logits, candidates)  # [M, K, 4]
    logits = class_logits.index_select(0, candidates.cell.flatten()).view(*candidates.cell.shape, class_logits.shape[1])
    truth = candidates.boxes[:, None].expand_as(boxes)
    labels = candidates.labels[:, None].expand_as(candidates.cell)
    class_costs = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
    overlap = paired_iou(boxes.detach(), truth)
    chosen = choose(candidates, overlap, class_costs.detach(), objectness.detach())

    box = torch.where(chosen, 1 - complete_iou(boxes.flatten(0, 1), truth.flatten(0, 1)).view_as(overlap), 0).sum()
    classes = torch.where(chosen, class_costs, 0).sum()
    target = torch.zeros_like(objectness)
    target.scatter_reduce_(0, candidates.anchor.flatten(), torch.where(chosen, overlap, 0).flatten(), "amax")
    objectness = F.binary_cross_entropy_with_logits(objectness, target, reduction="sum")

    box = box * (recipe.box_weight / count)
    objectness = objectness * (recipe.objectness_weight / count)
    classes = classes * (recipe.class_weight / count)
    return Losses(box + objectness + classes, box, objectness, classes)


@torch.no_grad()
def choose(candidates, overlap, class_costs, objectness):
    """The anchors that each box gets.

    A box gets as many as the IoUs of its best COUNTED candidates add up to, at least one, and takes those of least
    cost: −log score − IOU_COST · log IoU. An anchor that several boxes want goes to the one for which it costs least
    (to each of them if that is equal).

    Args:
        candidates: Candidates.
        overlap: [M, K], IoU of what the candidates predict.
        class_costs: [M, K], −log of the probability that they give the box's class.
        objectness: [anchors of the batch], logits.
    Returns:
        [M, K] bool.
    """
    logits = objectness.index_select(0, candidates.anchor.flatten()).view_as(overlap)
    cost = class_costs - F.logsigmoid(logits) - IOU_COST * (overlap + EPSILON).log()
    cost = torch.where(candidates.allowed, cost, _NEVER)
    counted = torch.where(candidates.allowed, overlap, 0).topk(min(COUNTED, overlap.shape[1]), 1).values
    wanted = counted.sum(1, keepdim=True).round().clamp(min=1)
    chosen = candidates.allowed & (cost.argsort(dim=1, stable=True).argsort(dim=1) < wanted)
    offers = torch.where(chosen, cost, _NEVER).flatten()
    least = torch.full_like(objectness, _NEVER).scatter_reduce_(0, candidates.anchor.flatten(), offers, "amin")
    return chosen & (cost <= least.index_select(0, candidates.anchor.flatten()).view_as(cost))


def _flatten(output):
    """Logits over the whole batch, in the order of Candidates: boxes [anchors, 4], objectness [anchors], classes
    [cells, C]."""
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


def _decode(box_logits, candidates):
    """[M, K, 4], (cx, cy, w, h) in input pixels, as `utils.postprocess.decode_boxes` has them."""
    # index_select, because its gradient is summed in a fixed order; advanced indexing's is not, on many cores.
    logits = box_logits.index_select(0, candidates.anchor.flatten())
    activated = logits.sigmoid().view(*candidates.anchor.shape, 4)
    centres = (activated[..., :2] * 2 - 0.5) * candidates.strides + candidates.origins
    sizes = (activated[..., 2:] * 2).square() * candidates.anchor_sizes
    return torch.cat((centres, sizes), 2)
