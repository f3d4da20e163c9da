"""Detecting frame by frame: the number of threads."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from utils.detect.run import FrameDetector, choose_threads
from utils.postprocess import Thresholds
from utils.runtimes.base import Timing


class TimedRuntime:
    """A runtime that takes a given time per frame for each number of threads."""

    def __init__(self, seconds, device="cpu"):
        self.seconds, self.device, self.threads, self.used = seconds, device, 1, []

    def set_threads(self, count):
        self.threads = count

    def predict_timed(self, images, thresholds):
        self.used.append(self.threads)
        time.sleep(self.seconds[self.threads])
        return [np.zeros((0, 6), np.float32)], Timing(0, 0, 0)


def detector_of(runtime):
    return FrameDetector(runtime, (32, 64), Thresholds())


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [({1: 0.001, 2: 0.02}, 1), ({1: 0.02, 2: 0.001}, 2), ({1: 0.02, 2: 0.02, 4: 0.001, 6: 0.03}, 4), ({1: 0.001}, 1)],
)
def test_the_fastest_number_of_threads_is_used(seconds, expected):
    runtime = TimedRuntime(seconds)
    detector = detector_of(runtime)
    choose_threads(detector, max(seconds))
    detector(np.zeros((10, 10, 3), np.uint8))
    assert runtime.used[-1] == expected
    assert set(runtime.used) == set(seconds)


def test_threads_are_not_tried_for_a_network_on_a_gpu():
    detector = SimpleNamespace(runtime=TimedRuntime({}, "cuda"))
    choose_threads(detector, 8)
    assert detector.runtime.used == []
