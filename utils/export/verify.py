"""Compare an exported model with PyTorch on real images: its outputs, and how it changes the detections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from model import DetectorOutput
from model.detector import Detector
from utils.boxes import cxcywh_to_xyxy, xyxy_iou_matrix
from utils.dataset.images import read_resized
from utils.errors import RunError, warn
from utils.evaluation.confusion import match_by_iou
from utils.export.graph import activate, decode
from utils.postprocess import Anchors
from utils.runtimes.base import Runtime
from utils.runtimes.loading import load_runtime
from utils.runtimes.model_info import ModelInfo
from utils.runtimes.onnx_runtime import OnnxRuntime
from utils.text import counted

TEST_IMAGE = Path(__file__).resolve().parents[2] / "img" / "astronaut.jpg"
TOLERANCE = 1e-3  # a float32 model that differs by more is wrong
FLOAT16_TOLERANCE = 0.05  # a float16 model that differs by more gets a warning
SAME_IOU = 0.8  # lowest IoU of two boxes that count as the same detection
NOTABLE = 0.02  # if a larger fraction of the detections changes, the message recommends --evaluate


class Reference(NamedTuple):
    """An image of the input size, and PyTorch's outputs for it."""

    image: np.ndarray  # [H, W, 3] uint8, BGR
    output: DetectorOutput  # probabilities, tensors


class Sample(NamedTuple):
    """Images, and what the network detects in them in PyTorch."""

    images: np.ndarray  # [N, H, W, 3] uint8, BGR, of the input size
    source: str  # for messages, for example "5 images of img/"
    detections: list[np.ndarray]  # [n, 6] per image


def make_reference(detector: Detector, info: ModelInfo) -> Reference:
    """Run the network in PyTorch on the test image."""
    image = read_resized(TEST_IMAGE, info.width, info.height)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        return Reference(image, activate(detector.eval()(pixels)))


def make_sample(runtime: Runtime, images: Sequence[np.ndarray], source: str, info: ModelInfo) -> Sample:
    """Detect in images of the input size with PyTorch."""
    images = np.stack(images)
    return Sample(images, f"{counted(len(images), 'image')} of {source}", runtime.predict(images, info.thresholds))


def compare_with_pytorch(
    path: Path, precision: str, reference: Reference, sample: Sample, info: ModelInfo
) -> list[str]:
    """Compare an exported model with PyTorch: the detections in `sample`, and the outputs for `reference`.

    Returns:
        Lines of text about the result.

    Raises:
        RunError: a float32 model differs by more than TOLERANCE, or by NaN.
    """
    runtime = load_runtime(path, info)
    verdict = describe_changes(runtime, sample, info)
    if isinstance(runtime, OnnxRuntime) and runtime.includes_nms:
        if precision != "FP32":
            return [verdict]  # rounding moves scores across the threshold, so different detections are not an error
        (detections,) = runtime.predict(reference.image[None], info.thresholds)
        difference = detections_difference(torch.from_numpy(detections), reference, info)
    else:
        difference = largest_difference(runtime, reference)
    check_difference(path.name, precision, difference)
    if precision == "INT8":
        return [verdict]  # the largest difference of an output says little about the detections
    return [verdict, f"largest difference from PyTorch on img/{TEST_IMAGE.name}: {difference:.2g}"]


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
    text = f"{same} of {total} detections in {sample.source} are the same as in PyTorch, {found_count - same} new"
    changed = max(total, found_count) - same
    return f"{text}; --evaluate measures what this means for AP" if changed > NOTABLE * total else text


def count_same(found: np.ndarray, expected: np.ndarray) -> int:
    """Count the detections [n, 6] that have a partner of the same class with an IoU of at least SAME_IOU."""
    overlap = xyxy_iou_matrix(found[:, :4], expected[:, :4])
    overlap[found[:, None, 5] != expected[:, 5]] = 0
    return len(match_by_iou(overlap, SAME_IOU))


def check_difference(name: str, precision: str, difference: float) -> None:
    """Fail if a float32 model differs too much, and warn if a float16 model does; int8 is not checked.

    Raises:
        RunError: a float32 model differs by more than TOLERANCE, or by NaN.
    """
    if precision == "FP32" and not difference <= TOLERANCE:
        raise RunError(f"{name}: expected a difference from PyTorch of at most {TOLERANCE:g}, got {difference:g}")
    if precision == "FP16" and not difference <= FLOAT16_TOLERANCE:
        warn(
            f"{name}: float16 changes a probability by {difference:.2g}; compare AP with --evaluate, or export float32"
        )


def largest_difference(runtime: Runtime, reference: Reference) -> float:
    """Return the largest difference between the outputs of `runtime` and those of `reference`."""
    output = runtime.execute(runtime.prepare(reference.image[None]))
    differences = [
        np.abs(ours - theirs.numpy()).max()
        for scale, expected in zip(output, reference.output, strict=True)
        for ours, theirs in zip(scale, expected, strict=True)
    ]
    return float(np.max(differences))  # NaN if any difference is NaN


def detections_difference(detections: torch.Tensor, reference: Reference, info: ModelInfo) -> float:
    """Compare the detections of a model that includes NMS with the predictions of PyTorch.

    Rounding may move a score across the threshold, or swap two boxes of nearly equal score. So the detections need not
    be equal. Required, each with a margin of TOLERANCE: all scores are above `info.conf`, no two detections of a class
    overlap by more than `info.iou`, and every prediction that no other one can suppress is detected. The caller checks
    the returned difference.

    Args:
        detections: [n, 6] (x1, y1, x2, y2, score, class) in input pixels, for the image of `reference`.

    Returns:
        Largest difference between a detection and the nearest prediction of PyTorch, in the score or in a coordinate
        (as a fraction of the input size). Infinite if a requirement is not met.
    """
    boxes, scores = _predictions(reference, info.anchors)
    sides = boxes.new_tensor([info.width, info.height, info.width, info.height])
    class_ids = detections[:, 5].long()
    class_scores = scores[:, class_ids].T  # [n, K] scores of all predictions for the class of each detection
    box_difference = ((detections[:, None, :4] - boxes) / sides).abs().amax(2)
    difference = box_difference.maximum((detections[:, 4:5] - class_scores).abs())  # [n, K]
    largest = float(difference.amin(1).max()) if len(detections) else 0.0
    overlaps = xyxy_iou_matrix(detections[:, :4], detections[:, :4]).fill_diagonal_(0)
    overlaps[class_ids[:, None] != class_ids] = 0
    if (overlaps > info.iou + TOLERANCE).any() or (detections[:, 4] <= info.conf - TOLERANCE).any():
        return math.inf
    # If there are `max_det` detections, weaker ones are left out.
    full = len(detections) >= info.max_det
    min_score = max(info.conf, float(detections[:, 4].min()) if full else 0.0) + TOLERANCE
    detected = torch.zeros(len(boxes), dtype=torch.bool)
    detected[difference.argmin(1)] = True
    return largest if detected[_undisputed(boxes, scores, min_score, info.iou - TOLERANCE)].all() else math.inf


def _predictions(reference: Reference, anchors: Anchors) -> tuple[torch.Tensor, torch.Tensor]:
    """Return boxes [K, 4] (x1, y1, x2, y2) in input pixels and scores [K, C] of all predictions."""
    boxes = cxcywh_to_xyxy(decode(reference.output, anchors).boxes[0])
    scores = [
        (scale.objectness[0].permute(1, 2, 0)[..., None] * scale.classes[0].permute(1, 2, 0)[:, :, None]).flatten(0, 2)
        for scale in reference.output
    ]
    return boxes, torch.cat(scores)


def _undisputed(boxes: torch.Tensor, scores: torch.Tensor, min_score: float, iou: float) -> torch.Tensor:
    """Return the indices of the predictions that every correct NMS keeps.

    Their score is above `min_score`, and all other classes score lower by TOLERANCE or more. All predictions that may
    have the same class and overlap them by more than `iou` also score lower by TOLERANCE or more.
    """
    best = scores.amax(1)
    candidates = torch.nonzero(best > min_score - 2 * TOLERANCE).flatten()
    boxes, scores, best = boxes[candidates], scores[candidates], best[candidates]
    possible = scores > best[:, None] - TOLERANCE  # [k, C] classes that rounding could make the best one
    overlapping = xyxy_iou_matrix(boxes, boxes).fill_diagonal_(0) > iou
    rivals = overlapping & (possible.float() @ possible.float().T > 0) & (best > best[:, None] - TOLERANCE)
    return candidates[(best > min_score) & (possible.sum(1) == 1) & ~rivals.any(1)]
