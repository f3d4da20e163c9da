"""Running a detector on images: uint8 pixels in, detections out, whatever executes the network."""

import time
from typing import NamedTuple

import torch

from model.detector import DetectorOutput, ScaleOutput
from utils.postprocess import MAX_DETECTIONS, detect


class Timing(NamedTuple):
    """Seconds that one call took."""

    preprocess: float
    network: float
    postprocess: float


class Runtime:
    """What executes a network. A subclass says how, in `prepare` and `execute`, and sets the attributes below."""

    name: str  # of the software that executes, for people
    precision: str  # of the weights: FP32, FP16, INT8
    device = None  # torch.device that the network runs on; detections are on the CPU
    device_name: str  # in words
    anchors = None  # [2][A][2], width and height in input pixels, stride 16 first
    activated = True  # whether the network ends with sigmoid and softmax
    batches_at_once = 1  # batches that an evaluation is best to work on side by side

    def prepare(self, images):
        """uint8 images [N, H, W, 3], array or tensor, BGR, to what `execute` takes."""
        raise NotImplementedError

    def execute(self, prepared):
        """What `prepare` has made, to a DetectorOutput: of logits, or of probabilities where `activated` says so."""
        raise NotImplementedError

    def select(self, output, conf, iou, max_det, classes):
        """What `execute` has made, to a list of N tensors [n, 6]."""
        return detect(output, self.anchors, conf, iou, max_det, classes, self.activated)

    @torch.inference_mode()
    def predict_timed(self, images, conf, iou, max_det=MAX_DETECTIONS, classes=None):
        """Detections of a batch, and how long each step took.

        Args:
            images: [N, H, W, 3] uint8 array or tensor, BGR, at the network's size.
            conf, iou, max_det, classes: as in `utils.postprocess.detect`.
        Returns:
            (list of N tensors [n, 6] (x1, y1, x2, y2, score, class) in pixels of the network's frame, Timing)
        """
        start = self._now()
        prepared = self.prepare(images)
        ready = self._now()
        output = self.execute(prepared)
        computed = self._now()
        detections = self.select(output, conf, iou, max_det, classes)
        done = self._now()
        return detections, Timing(ready - start, computed - ready, done - computed)

    def predict(self, images, conf, iou, max_det=MAX_DETECTIONS, classes=None):
        """The detections of `predict_timed` alone."""
        return self.predict_timed(images, conf, iou, max_det, classes)[0]

    def _now(self):
        """Seconds on a clock, once the device has done what it was given."""
        return time.perf_counter()


def split_map(values, anchor_num):
    """One output of an exported network to its three parts.

    Args:
        values: [N, H, W, 4·A + A + C] tensor.
        anchor_num: A.
    Returns:
        ScaleOutput of views.
    """
    boxes, objectness, classes = values.permute(0, 3, 1, 2).tensor_split((4 * anchor_num, 5 * anchor_num), 1)
    return ScaleOutput(boxes, objectness, classes)


def split_maps(maps, anchor_num):
    """Both outputs of an exported network to a DetectorOutput, see `split_map`."""
    return DetectorOutput(*(split_map(values, anchor_num) for values in maps))
