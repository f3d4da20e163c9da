"""The interface of all runtimes: uint8 images in, detections out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from model import DetectorOutput
from utils.config import Config
from utils.postprocess import Thresholds, detect
from utils.text import counted
from utils.weights.model_description import ModelDescription

if TYPE_CHECKING:
    import torch


class Timing(NamedTuple):
    """Duration of each part of one call, in seconds."""

    preprocess: float
    network: float
    postprocess: float


class Runtime:
    """A network and the software that executes it.

    A subclass defines the attributes, `set_threads`, `prepare` and `execute`.
    """

    name: str  # of the software, for messages
    precision: str  # of the weights: FP32, FP16 or INT8
    device: str  # runs the network: cpu, cuda:0 …
    device_name: str  # for messages
    info: Config | ModelDescription  # class names, input size and anchors of the model
    activated = True  # whether the network ends with sigmoid and softmax
    batches_at_once = 1  # how many batches an evaluation should run in parallel

    def set_threads(self, count: int) -> None:
        """Use this many CPU threads per batch."""
        raise NotImplementedError

    def prepare(self, images: np.ndarray | torch.Tensor) -> object:
        """Convert uint8 images [N, H, W, 3], BGR, to the argument of `execute`."""
        raise NotImplementedError

    def execute(self, prepared: object) -> DetectorOutput:
        """Run the network. It returns probabilities if `activated`, otherwise logits."""
        raise NotImplementedError

    def select(self, output: DetectorOutput, thresholds: Thresholds) -> list[np.ndarray]:
        """Convert the result of `execute` to detections per image, each [n, 6]."""
        return detect(output, self.info.anchors, thresholds, self.activated)

    def predict_timed(
        self, images: np.ndarray | torch.Tensor, thresholds: Thresholds
    ) -> tuple[list[np.ndarray], Timing]:
        """Detect in a batch of images and measure the time of each part.

        Args:
            images: [N, H, W, 3] uint8, BGR, resized to the input size.

        Returns:
            (detections per image, each [n, 6] float32 (x1, y1, x2, y2, score, class) in input pixels; Timing)
        """
        start = self.now()
        prepared = self.prepare(images)
        ready = self.now()
        output = self.execute(prepared)
        computed = self.now()
        detections = self.select(output, thresholds)
        done = self.now()
        return detections, Timing(ready - start, computed - ready, done - computed)

    def predict(self, images: np.ndarray | torch.Tensor, thresholds: Thresholds) -> list[np.ndarray]:
        """Detect in a batch of images: `predict_timed` without the times."""
        return self.predict_timed(images, thresholds)[0]

    def now(self) -> float:
        """Return the time in seconds, after the device has finished its work."""
        return time.perf_counter()


def cpu_name(threads: int) -> str:
    """Name the CPU and its threads for messages."""
    return f"cpu ({counted(threads, 'thread')})"
