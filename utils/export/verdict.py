"""How an exported model changes the detections, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from utils.boxes import xyxy_iou_matrix
from utils.evaluation.confusion import match_by_iou
from utils.runtimes.base import Runtime
from utils.runtimes.model_info import ModelInfo

SAME_IOU = 0.8  # lowest IoU of two boxes that count as the same detection
NOTABLE = 0.02  # share of changed detections from which AP should be measured


class Sample(NamedTuple):
    """Images, and what the network detects in them in PyTorch."""

    images: np.ndarray  # [N, H, W, 3] uint8, BGR, of the input size
    source: str  # for messages, for example "5 images of img/"
    detections: list[np.ndarray]  # [n, 6] per image


def make_sample(runtime: Runtime, images: Sequence[np.ndarray], source: str, info: ModelInfo) -> Sample:
    """Detect in images of the input size with PyTorch."""
    images = np.stack(images)
    name = f"{len(images)} image{'' if len(images) == 1 else 's'} of {source}"
    return Sample(images, name, runtime.predict(images, info.thresholds))


def describe_changes(runtime: Runtime, sample: Sample, info: ModelInfo) -> str:
    """Compare the detections of an exported model with those in PyTorch.

    Returns:
        One line: how many are the same, with a box of at least SAME_IOU and the same class, and how many are new.
    """
    found = [runtime.predict(image[None], info.thresholds)[0] for image in sample.images]
    same = sum(map(count_same, found, sample.detections))
    total, found_count = sum(map(len, sample.detections)), sum(map(len, found))
    if not total and not found_count:
        return f"nothing is detected in {sample.source}, so there is nothing to compare"
    if same == total == found_count:
        return f"all {total} detections in {sample.source} are the same as in PyTorch"
    text = f"{same} of {total} detections in {sample.source} are the same as in PyTorch, {found_count - same} more"
    changed = max(total, found_count) - same
    return f"{text}; --evaluate measures what this means for AP" if changed > NOTABLE * total else text


def count_same(found: np.ndarray, expected: np.ndarray) -> int:
    """Count the detections [n, 6] that have a partner of the same class with an IoU of at least SAME_IOU."""
    overlap = xyxy_iou_matrix(found[:, :4], expected[:, :4])
    overlap[found[:, None, 5] != expected[:, 5]] = 0
    return len(match_by_iou(overlap, SAME_IOU))
