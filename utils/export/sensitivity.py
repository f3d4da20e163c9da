"""Which layers stay in floating point when a network is quantised: those that quantise badly, by measurement."""

import torch
from torchvision.ops import box_convert
from tqdm import tqdm

TOLERANCE = 0.03  # a layer whose quantisation alone changes scores by more than this share stays in floating point
MOST_WEIGHTS = 0.15  # share of the network's weights that may stay in floating point: an int8 file is to be small
LEAST_SCORE = 0.01  # of predictions that are compared: others are never seen
IMAGES = 16  # that are enough to tell layers apart


def choose_float_layers(sizes, predict, reference, tolerance=TOLERANCE, most_weights=MOST_WEIGHTS):
    """The layers that must not be quantised.

    Args:
        sizes: {name: number of weights} of all layers that can be.
        predict: function of a list of the names that are quantised, which gives Predictions an image.
        reference: Predictions an image, with none quantised.
        tolerance: `disagreement` above which a layer stays in floating point, the worst first …
        most_weights: … as long as they are no larger share of all weights than this.
    Returns:
        dict of the disagreement that each of those layers alone causes, worst first.
    """
    alone = {
        name: disagreement(reference, predict([name]))
        for name in tqdm(sizes, desc="layers in int8", unit="layer", disable=None, leave=False)
    }
    left = most_weights * sum(sizes.values())
    chosen = {}
    for name, harm in sorted(alone.items(), key=lambda item: -item[1]):
        if harm > tolerance and sizes[name] <= left:
            chosen[name] = harm
            left -= sizes[name]
    return chosen


def disagreement(reference, other):
    """How far predictions are from those that they should equal, 0 for the same ones.

    The score that is lost or added at each prediction, and its box's 1 − IoU times its score, as a share of all
    scores. So what is confidently detected counts most.

    Args:
        reference, other: lists of Predictions, an image each.
    Returns:
        float
    """
    changed = total = 0.0
    for expected, got in zip(reference, other, strict=True):
        seen = expected.scores > LEAST_SCORE
        scores = expected.scores[seen]
        same_class = expected.labels[seen] == got.labels[seen]
        got_scores = torch.where(same_class, got.scores[seen], 0)
        overlap = _paired_iou(expected.boxes[seen], got.boxes[seen])
        changed += float(((scores - got_scores).abs() + scores * (1 - overlap)).sum())
        total += float(scores.sum())
    return changed / total if total else 0.0


def _paired_iou(boxes, others):
    """IoU of pairs of boxes (cx, cy, w, h): [n]."""
    boxes, others = box_convert(boxes, "cxcywh", "xyxy"), box_convert(others, "cxcywh", "xyxy")
    low, high = torch.maximum(boxes[:, :2], others[:, :2]), torch.minimum(boxes[:, 2:], others[:, 2:])
    intersection = (high - low).clamp(min=0).prod(1)
    areas = [(corners[:, 2:] - corners[:, :2]).prod(1) for corners in (boxes, others)]
    return intersection / (areas[0] + areas[1] - intersection).clamp(min=1e-9)
