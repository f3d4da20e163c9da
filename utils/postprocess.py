"""From the network's outputs to detections: activation, decoding, non-maximum suppression.

Everything works on whole batches and on any device. The three steps are separate because an exported
network ends with the first one inside.
"""

from typing import NamedTuple

import torch
from torchvision.ops import batched_nms, box_convert

from model.detector import DetectorOutput, ScaleOutput
from utils.config import STRIDES

MAX_DETECTIONS = 300  # an image, as in the original


class Predictions(NamedTuple):
    """One prediction an anchor; K = all anchors of all cells, stride 16 first, then row, column, anchor."""

    boxes: torch.Tensor  # [N, K, 4], (cx, cy, w, h) in input pixels
    objectness: torch.Tensor  # [N, K], 0…1
    scores: torch.Tensor  # [N, K], objectness · probability of the likeliest class
    labels: torch.Tensor  # [N, K], the likeliest class


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

    x = (2σ(t₀) − 0.5 + column) · stride, w = (2σ(t₂))² · anchor width, y and h alike.

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
        if not isinstance(scale_anchors, torch.Tensor):
            scale_anchors = scale.boxes.new_tensor(scale_anchors)
        boxes = decode_boxes(scale.boxes, scale_anchors, stride)
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


def suppress(predictions, conf, iou, max_det=MAX_DETECTIONS, classes=None):
    """Detections of each image: scores above `conf`, non-maximum suppression within each class.

    A score is objectness times a probability, so a score above `conf` implies an objectness above it.

    Args:
        predictions: Predictions of a batch.
        conf: score that a detection must exceed.
        iou: a box overlapping a better one of its class by more than this is dropped.
        max_det: the best so many of an image are kept.
        classes: class numbers to keep, or None for all.
    Returns:
        list of N tensors [n, 6], (x1, y1, x2, y2, score, class) in input pixels, best first.
    """
    keep = predictions.scores > conf
    if classes is not None:
        keep &= torch.isin(predictions.labels, torch.as_tensor(classes, device=keep.device))
    # One selection for the whole batch; the images are then slices of it.
    boxes = box_convert(predictions.boxes[keep], "cxcywh", "xyxy")
    scores, labels = predictions.scores[keep], predictions.labels[keep]
    counts = keep.sum(1).tolist()
    detections = []
    for image_boxes, image_scores, image_labels in zip(
        boxes.split(counts), scores.split(counts), labels.split(counts), strict=True
    ):
        best = batched_nms(image_boxes, image_scores, image_labels, iou)[:max_det]
        columns = (image_boxes[best], image_scores[best, None], image_labels[best, None].to(image_boxes.dtype))
        detections.append(torch.cat(columns, 1))
    return detections


def detect(output, anchors, conf, iou, max_det=MAX_DETECTIONS, classes=None):
    """The network's logits to detections; arguments and result as in `decode` and `suppress`."""
    return suppress(decode(activate(output), anchors), conf, iou, max_det, classes)
