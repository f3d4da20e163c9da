"""What an exported model makes of a real picture, beside what PyTorch makes of it."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from utils.datasets import resize_image
from utils.errors import RunError, warn
from utils.images import read_image
from utils.postprocess import detect
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
    """Largest difference of a score or of a coordinate, as a share of the input's side, between detections.

    Args:
        found: [n, 6], of the picture of a Reference.
        expected: Reference, whose maps are decoded and suppressed with the thresholds of `info`.
        info: ModelInfo.
    Returns:
        float, infinite when there are more or fewer of them, or of other classes.
    """
    output = split_maps(expected.maps, info.anchor_num)
    (wanted,) = detect(output, info.anchors, info.conf, info.iou, info.max_det, activated=True)
    if len(found) != len(wanted) or not torch.equal(found[:, 5], wanted[:, 5]):
        return math.inf
    if not len(found):
        return 0.0
    units = found.new_tensor([info.width, info.height, info.width, info.height, 1, 1])
    return float(((found - wanted).abs() / units).max())


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
