"""What the runtimes of exported models share."""

from collections.abc import Iterable

import numpy as np

from model import DetectorOutput, ScaleOutput
from utils.machine import thread_count
from utils.runtimes.base import Runtime, cpu_name
from utils.runtimes.model_info import ModelInfo

MAX_AT_ONCE = 16  # batches that run in parallel; each needs about 20 MB


class ExportedRuntime(Runtime):
    """A model exported by pytorch2onnx.py. It runs on the CPU, a batch on one thread unless `set_threads` is called.

    The network is so small that two threads, which wait for each other after each layer, are often slower than one.
    """

    device = "cpu"

    def __init__(self, info: ModelInfo) -> None:
        self.info, self.precision = info, info.precision
        self.device_name = cpu_name(1)
        self.batches_at_once = min(MAX_AT_ONCE, thread_count())

    def set_threads(self, count: int) -> None:
        self.device_name = cpu_name(count)


def split_maps(maps: Iterable[np.ndarray], anchor_num: int) -> DetectorOutput:
    """Split both outputs of an exported network, each [N, H, W, 4·A + A + C], into boxes, objectness and classes."""
    sections = (4 * anchor_num, 5 * anchor_num)
    return DetectorOutput(*(ScaleOutput(*np.split(values.transpose(0, 3, 1, 2), sections, 1)) for values in maps))
