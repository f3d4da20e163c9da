"""From the network's outputs to detections: activation, decoding, non-maximum suppression.

Everything works on whole batches and on any device. Detecting activates and decodes what can become a detection, few of
all predictions; to decode them all is for those who look at all. Activation is separate because an exported network
ends with it.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torchvision.ops import nms

from model.detector import DetectorOutput, ScaleOutput
from utils.config import STRIDES

MAX_DETECTIONS = 300  # an image, as in the original
FEW = 32  # boxes of a single image, which NumPy suppresses sooner than torchvision


class Predictions(NamedTuple):
    """One prediction an anchor; K = all anchors of all cells, stride 16 first, then row, column, anchor."""

    boxes: torch.Tensor  # [N, K, 4], (cx, cy, w, h) in input pixels
    objectness: torch.Tensor  # [N, K], 0…1
    scores: torch.Tensor  # [N, K], objectness · probability of the likeliest class
    labels: torch.Tensor  # [N, K], the likeliest class


class Candidates(NamedTuple):
    """Predictions of a batch that can become detections, M of all images together."""

    images: np.ndarray  # [M], number of the image in the batch
    boxes: np.ndarray  # [M, 4] float32, (x1, y1, x2, y2) in input pixels
    scores: np.ndarray  # [M] float32, objectness · probability of the likeliest class
    labels: np.ndarray  # [M], the likeliest class


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


def find_candidates(output, anchors, conf, classes=None, activated=False):
    """The predictions whose score exceeds `conf`.

    A score is objectness times a probability, so it cannot exceed the objectness: the classes and boxes of cells whose
    objectness is too low, nine in ten and more, are not looked at. In NumPy, for an image alone leaves so little to
    compute that PyTorch would spend its time on starting each of these many steps.

    Args:
        output: DetectorOutput of logits, or of probabilities with `activated`; of any float type, on any device.
        anchors: as for `decode`.
        conf: score that a detection must exceed.
        classes: class numbers to keep, or None for all.
    Returns:
        Candidates.
    """
    limit = conf if activated else _logit(conf)
    cells = [_cells_above(*numbered, limit) for numbered in enumerate(output)]
    cells = _Cells(*map(np.concatenate, zip(*cells, strict=True)))
    labels = cells.classes.argmax(1)
    best = cells.classes[np.arange(len(labels)), labels][:, None]
    objectness = cells.objectness
    if not activated:
        best = 1 / np.exp(cells.classes - best).sum(1, keepdims=True)  # softmax of the largest alone
        objectness = _sigmoid(objectness)
    scores = objectness * best  # [m, A]
    wanted = scores > conf
    if classes is not None:
        wanted &= np.isin(labels, classes)[:, None]
    chosen, numbers = np.nonzero(wanted)
    # From here on a row a coordinate: NumPy is slow at many rows of two or four.
    boxes = np.ascontiguousarray(cells.boxes.reshape(*scores.shape, 4)[chosen, numbers].T)
    if not activated:
        boxes = _sigmoid(boxes)
    scales, places = cells.scales[chosen], np.stack((cells.columns, cells.rows))[:, chosen]
    centres = (boxes[:2] * 2 - 0.5 + places) * np.array(STRIDES, np.float32)[scales]
    halves = (boxes[2:] * 2) ** 2 * (np.asarray(anchors, np.float32)[scales, numbers] / 2).T
    corners = np.concatenate((centres - halves, centres + halves))
    return Candidates(cells.images[chosen], corners.T, scores[wanted], labels[chosen])


class _Cells(NamedTuple):
    """Cells in which some anchor's objectness suffices, m of a batch together, with what the network says of them."""

    images: np.ndarray  # [m], number of the image in the batch
    scales: np.ndarray  # [m], 0 for stride 16, 1 for stride 32
    columns: np.ndarray  # [m] float32
    rows: np.ndarray  # [m] float32
    objectness: np.ndarray  # [m, A]
    boxes: np.ndarray  # [m, 4·A]
    classes: np.ndarray  # [m, C]


def _cells_above(number, scale, limit):
    """_Cells of the scale of this number whose objectness, of the best anchor, exceeds the limit."""
    _, anchor_num, height, width = scale.objectness.shape
    objectness, boxes, classes = map(_values_last, (scale.objectness, scale.boxes, scale.classes))
    cells = np.flatnonzero(objectness > limit) // anchor_num
    cells = cells[np.flatnonzero(np.diff(cells, prepend=-1))]  # each once
    images, places = np.divmod(cells, height * width)
    rows, columns = np.divmod(places.astype(np.float32), width)
    scales = np.full(len(cells), number)
    return _Cells(images, scales, columns, rows, objectness[cells], boxes[cells], classes[cells])


def _values_last(values):
    """[N, V, H, W] tensor to [N·H·W, V] float32 array."""
    array = values.float().cpu().numpy()
    return array.transpose(0, 2, 3, 1).reshape(-1, array.shape[1])


def _sigmoid(values):
    with np.errstate(over="ignore"):  # of e^x, which makes 0
        return 1 / (1 + np.exp(-values))


def _logit(probability, margin=1e-3):
    """What sigmoid makes this probability of, less what rounding may do."""
    if not 0 < probability < 1:
        return -math.inf if probability <= 0 else math.inf
    return math.log(probability / (1 - probability)) - margin


def suppress(candidates, count, iou, max_det=MAX_DETECTIONS):
    """Detections of each image: non-maximum suppression within each class.

    Args:
        candidates: Candidates.
        count: images in the batch, N.
        iou: a box overlapping a better one of its class by more than this is dropped.
        max_det: the best so many of an image are kept.
    Returns:
        list of N CPU tensors [n, 6], (x1, y1, x2, y2, score, class) in input pixels, best first.
    """
    images, corners, scores, labels = candidates.images, candidates.boxes.T, candidates.scores, candidates.labels
    if count > 1:
        order = images.argsort(kind="stable")
        images, corners, scores, labels = images[order], corners[:, order], scores[order], labels[order]
    rows = np.ascontiguousarray(np.concatenate((corners, scores[None], labels[None]), dtype=np.float32).T)
    if not len(rows):
        return [torch.from_numpy(rows)] * count
    # Classes are moved apart so far that no two boxes of different ones meet; in float64 nothing is rounded away.
    moved = corners + labels * (float(corners.max()) - float(corners.min()) + 1)
    if count == 1 and len(rows) <= FEW:
        return [torch.from_numpy(rows[_suppress_few(moved, scores, iou)[:max_det]])]
    counts = np.bincount(images, minlength=count).tolist()
    parts = (torch.from_numpy(values).split(counts) for values in (rows, moved.T, scores.astype(np.float64)))
    return [rows[nms(boxes, scores, iou)[:max_det]] for rows, boxes, scores in zip(*parts, strict=True)]


def _suppress_few(boxes, scores, iou):
    """What torchvision's `nms` gives for boxes [4, n], which for few of them spends its time on starting steps."""
    order = np.argsort(-scores, kind="stable")
    x1, y1, x2, y2 = boxes[:, order]
    widths = np.minimum(x2[:, None], x2) - np.maximum(x1[:, None], x1)
    heights = np.minimum(y2[:, None], y2) - np.maximum(y1[:, None], y1)
    common, areas = widths.clip(0) * heights.clip(0), (x2 - x1) * (y2 - y1)
    with np.errstate(invalid="ignore"):  # of two boxes without area, which do not overlap
        overlaps = common / (areas[:, None] + areas - common) > iou
    kept = np.ones(len(order), bool)
    for number in range(len(order)):
        if kept[number]:
            kept[number + 1 :] &= ~overlaps[number, number + 1 :]
    return order[kept]


def detect(output, anchors, conf, iou, max_det=MAX_DETECTIONS, classes=None, activated=False):
    """The network's outputs to detections; arguments and result as in `find_candidates` and `suppress`."""
    candidates = find_candidates(output, anchors, conf, classes, activated)
    return suppress(candidates, len(output[0].boxes), iou, max_det)
