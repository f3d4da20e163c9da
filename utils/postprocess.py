"""From the network's outputs to detections: activation, decoding, non-maximum suppression.

Everything works on whole batches and on any device. Detecting activates and decodes what can become a detection, few of
all predictions; to decode them all is for those who look at all. Activation is separate because an exported network
ends with it.
"""

from typing import NamedTuple

import torch
from torchvision.ops import box_convert, nms

from model.detector import DetectorOutput, ScaleOutput
from utils.config import STRIDES

MAX_DETECTIONS = 300  # an image, as in the original


class Predictions(NamedTuple):
    """One prediction an anchor; K = all anchors of all cells, stride 16 first, then row, column, anchor."""

    boxes: torch.Tensor  # [N, K, 4], (cx, cy, w, h) in input pixels
    objectness: torch.Tensor  # [N, K], 0…1
    scores: torch.Tensor  # [N, K], objectness · probability of the likeliest class
    labels: torch.Tensor  # [N, K], the likeliest class


class Candidates(NamedTuple):
    """Predictions of a batch that can become detections, M of all images together."""

    images: torch.Tensor  # [M], number of the image in the batch
    boxes: torch.Tensor  # [M, 4], (x1, y1, x2, y2) in input pixels
    scores: torch.Tensor  # [M], objectness · probability of the likeliest class
    labels: torch.Tensor  # [M], the likeliest class


def activate(output):
    """Logits to probabilities: sigmoid on boxes and objectness, softmax over the classes.

    Args:
        output: DetectorOutput of logits, of any float type.
    Returns:
        DetectorOutput of the same shapes in float32.
    """
    return DetectorOutput(
        *(
            ScaleOutput(
                boxes=scale.boxes.float().sigmoid(),
                objectness=scale.objectness.float().sigmoid(),
                classes=scale.classes.float().softmax(1),
            )
            for scale in output
        )
    )


def decode_boxes(boxes, anchors, stride):
    """Activated box outputs of one scale to boxes in input pixels.

    Args:
        boxes: [N, 4·A, H, W], σ(t), anchor-major.
        anchors: [A, 2], width and height in input pixels.
        stride: input pixels a cell.
    Returns:
        [N, H, W, A, 4], (cx, cy, w, h) in input pixels.
    """
    batch, _, height, width = boxes.shape
    boxes = boxes.view(batch, anchors.shape[0], 4, height, width).permute(0, 3, 4, 1, 2)
    columns = torch.arange(width, device=boxes.device)
    rows = torch.arange(height, device=boxes.device)
    cells = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).unsqueeze(2)  # [H, W, 1, 2]
    return _place(boxes, cells, anchors, stride)


def _place(boxes, cells, anchors, stride):
    """σ(t) to boxes in input pixels: x = (2σ(t₀) − 0.5 + column) · stride, w = (2σ(t₂))² · anchor width, y and h alike.

    Args:
        boxes: [..., 4], σ(t).
        cells: [..., 2], column and row.
        anchors: [..., 2], width and height in input pixels.
        stride: input pixels a cell.
    Returns:
        [..., 4], (cx, cy, w, h).
    """
    centres = (boxes[..., :2] * 2 - 0.5 + cells) * stride
    sizes = (boxes[..., 2:] * 2).square() * anchors
    return torch.cat((centres, sizes), -1)


def decode(activated, anchors):
    """Activated outputs of both scales to one Predictions.

    Args:
        activated: DetectorOutput from `activate`, or what an exported network returns.
        anchors: [2][A][2], width and height in input pixels, stride 16 first; of numbers, or two tensors.
    """
    parts = []
    for scale, scale_anchors, stride in zip(activated, anchors, STRIDES, strict=True):
        boxes = decode_boxes(scale.boxes, _as_tensor(scale_anchors, scale.boxes), stride)
        objectness = scale.objectness.permute(0, 2, 3, 1)  # [N, H, W, A]
        probability, label = (best.unsqueeze(-1).expand_as(objectness) for best in scale.classes.max(1))
        parts.append(
            Predictions(
                boxes.flatten(1, 3),
                objectness.flatten(1),
                (objectness * probability).flatten(1),
                label.flatten(1),
            )
        )
    return Predictions(*(torch.cat(tensors, 1) for tensors in zip(*parts, strict=True)))


def _as_tensor(anchors, like):
    return anchors if isinstance(anchors, torch.Tensor) else like.new_tensor(anchors)


def find_candidates(output, anchors, conf, classes=None, activated=False):
    """The predictions whose score exceeds `conf`.

    A score is objectness times a probability, so it cannot exceed the objectness: the classes and boxes of cells whose
    objectness is too low, nine in ten and more, are not looked at.

    Args:
        output: DetectorOutput of logits, or of probabilities with `activated`; of any float type.
        anchors: as for `decode`.
        conf: score that a detection must exceed.
        classes: class numbers to keep, or None for all.
    Returns:
        Candidates.
    """
    parts = [
        _candidates_of_scale(scale, _as_tensor(scale_anchors, scale.boxes.float()), stride, conf, activated)
        for scale, scale_anchors, stride in zip(output, anchors, STRIDES, strict=True)
    ]
    found = Candidates(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
    if classes is not None:
        wanted = torch.isin(found.labels, torch.as_tensor(classes, device=found.labels.device))
        found = Candidates(*(values[wanted] for values in found))
    return found


def _candidates_of_scale(scale, anchors, stride, conf, activated):
    _, _, height, width = scale.objectness.shape
    # Values last: [cells of all images, values of a cell].
    objectness, boxes, classes = (
        values.permute(0, 2, 3, 1).flatten(0, 2) for values in (scale.objectness, scale.boxes, scale.classes)
    )
    objectness = objectness.float() if activated else objectness.float().sigmoid()
    cells = (objectness.amax(1) > conf).nonzero().squeeze(1)
    best, labels = classes[cells].float().max(1)
    if not activated:
        # Softmax of the largest alone.
        best = 1 / (classes[cells].float() - best.unsqueeze(1)).exp().sum(1)
    scores = objectness[cells] * best.unsqueeze(1)  # [cells, A]
    some, numbers = (scores > conf).nonzero().unbind(1)
    cells, scores, labels = cells[some], scores[some, numbers], labels[some]
    boxes = boxes.unflatten(1, (-1, 4))[cells, numbers].float()
    places = torch.stack((cells % width, cells // width % height), 1)
    placed = _place(boxes if activated else boxes.sigmoid(), places, anchors[numbers], stride)
    return Candidates(cells // (width * height), box_convert(placed, "cxcywh", "xyxy"), scores, labels)


def suppress(candidates, count, iou, max_det=MAX_DETECTIONS):
    """Detections of each image: non-maximum suppression within each class.

    Args:
        candidates: Candidates.
        count: images in the batch, N.
        iou: a box overlapping a better one of its class by more than this is dropped.
        max_det: the best so many of an image are kept.
    Returns:
        list of N tensors [n, 6], (x1, y1, x2, y2, score, class) in input pixels, best first.
    """
    images, boxes, scores, labels = (values[candidates.images.argsort(stable=True)] for values in candidates)
    rows = torch.cat((boxes, scores.unsqueeze(1), labels.unsqueeze(1).to(boxes.dtype)), 1)
    if not len(rows):
        return [rows] * count
    # Classes are moved apart so far that no two boxes of different ones meet; in float64 nothing is rounded away.
    boxes, scores = boxes.double(), scores.double()
    moved = boxes + (labels * (boxes.max() - boxes.min() + 1)).unsqueeze(1)
    counts = images.bincount(minlength=count).tolist()
    parts = zip(rows.split(counts), moved.split(counts), scores.split(counts), strict=True)
    return [own_rows[nms(own_boxes, own_scores, iou)[:max_det]] for own_rows, own_boxes, own_scores in parts]


def detect(output, anchors, conf, iou, max_det=MAX_DETECTIONS, classes=None, activated=False):
    """The network's outputs to detections; arguments and result as in `find_candidates` and `suppress`."""
    candidates = find_candidates(output, anchors, conf, classes, activated)
    return suppress(candidates, len(output[0].boxes), iou, max_det)
