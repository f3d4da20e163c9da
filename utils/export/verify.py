"""What an exported model makes of a real picture, beside what PyTorch makes of it."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torchvision.ops import box_convert, box_iou

from utils.dataset.dataset import resize_image
from utils.dataset.images import read_image
from utils.errors import RunError, warn
from utils.postprocess import decode
from utils.runtimes.base import split_maps

PICTURE = Path(__file__).resolve().parents[2] / "img" / "astronaut.jpg"
LIMIT = 1e-3  # difference of a float32 model's probabilities above which the export is wrong
ROUGH = 0.05  # difference that rounding to float16 makes above which a user should know


class Reference(NamedTuple):
    """A picture at network size and what the network makes of it in PyTorch."""

    image: np.ndarray  # [H, W, 3] uint8, BGR
    maps: list[torch.Tensor]  # [1, H, W, 4·A + A + C] a scale


def reference(module, info):
    """What an ActivatedDetector makes of a real picture: Reference."""
    image = resize_image(read_image(PICTURE), info.width, info.height)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        return Reference(image, list(module(pixels)))


def largest_difference(runtime, expected):
    """Largest difference of a probability between a Runtime's outputs and a Reference's."""
    output = runtime.execute(runtime.prepare(expected.image[None]))
    maps = [torch.cat(list(scale), 1).permute(0, 2, 3, 1) for scale in output]
    return max(float((own - other).abs().max()) for own, other in zip(maps, expected.maps, strict=True))


def detections_difference(found, expected, info):
    """Compare the detections of a model that ends with NMS with the predictions of PyTorch.

    Rounding may move a score across the threshold, or swap two boxes of nearly equal score. So three things are
    required, each with a margin of LIMIT: every detection is one of PyTorch's predictions, no two detections of a
    class overlap by more than `info.iou`, and every prediction that nothing near it could suppress is detected.

    Args:
        found: [n, 6] detections (x1, y1, x2, y2, score, class) in input pixels, in the image of `expected`.
        expected: Reference.
        info: ModelInfo, for anchors, input size and thresholds.

    Returns:
        Largest difference between a detection and its prediction: of the score, or of a coordinate as a fraction of
        the input's side. Infinite when a requirement is not met.
    """
    boxes, scores = _predictions(expected, info)
    units = boxes.new_tensor([info.width, info.height, info.width, info.height])
    labels = found[:, 5].long()
    own = scores[:, labels].T  # [n, K], scores of the predictions in the class of each detection
    difference = ((found[:, None, :4] - boxes) / units).abs().amax(2).maximum((found[:, 4:5] - own).abs())  # [n, K]
    largest = float(difference.amin(1).max()) if len(found) else 0.0
    overlaps = box_iou(found[:, :4], found[:, :4]).fill_diagonal_(0)
    overlaps[labels[:, None] != labels] = 0
    if (overlaps > info.iou + LIMIT).any() or (found[:, 4] <= info.conf - LIMIT).any():
        return math.inf
    # With `max_det` detections, those of lower score are left out.
    least = max(info.conf, float(found[:, 4].min()) if len(found) >= info.max_det else 0.0) + LIMIT
    seen = torch.zeros(len(boxes), dtype=torch.bool)
    seen[difference.argmin(1)] = True
    return largest if seen[_undisputed(boxes, scores, least, info.iou - LIMIT)].all() else math.inf


def _predictions(expected, info):
    """Boxes [K, 4] (x1, y1, x2, y2) in input pixels and scores [K, C] of all predictions of a Reference."""
    output = split_maps(expected.maps, info.anchor_num)
    boxes = box_convert(decode(output, info.anchors).boxes[0], "cxcywh", "xyxy")
    scores = [
        (scale.objectness[0].permute(1, 2, 0)[..., None] * scale.classes[0].permute(1, 2, 0)[:, :, None]).flatten(0, 2)
        for scale in output
    ]
    return boxes, torch.cat(scores)


def _undisputed(boxes, scores, least, iou):
    """Indices of the predictions that every correct NMS keeps.

    Their score is above `least`, their class is the best by LIMIT, and no prediction that overlaps them by more than
    `iou` and may count as the same class has a score within LIMIT of theirs, or a higher one.
    """
    best = scores.amax(1)
    candidates = torch.nonzero(best > least - 2 * LIMIT).flatten()
    boxes, scores, best = boxes[candidates], scores[candidates], best[candidates]
    possible = scores > best[:, None] - LIMIT  # [k, C], classes that rounding could make the best
    near = box_iou(boxes, boxes).fill_diagonal_(0) > iou
    rivals = near & (possible.float() @ possible.float().T > 0) & (best > best[:, None] - LIMIT)
    return candidates[(best > least) & (possible.sum(1) == 1) & ~rivals.any(1)]


def check_exact(name, difference):
    """A float32 model must be the same network.

    Raises:
        RunError: it differs from PyTorch by more than LIMIT, or by something that is no number.
    """
    if not difference <= LIMIT:
        raise RunError(f"{name}: differs from PyTorch by {difference:g} on a real picture, expected {LIMIT:g} at most")


def check_rounded(name, difference):
    """Warn of a float16 model whose rounding does harm."""
    if not difference <= ROUGH:
        warn(
            f"{name}: rounding to float16 changes a probability by {difference:.2g}; compare the AP, or stay in float32"
        )
