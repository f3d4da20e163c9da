"""Running a detector on images: uint8 pixels in, detections out, whatever executes the network."""

import time
from typing import NamedTuple

import torch

from utils.checkpoint import load_detector
from utils.errors import InputError
from utils.postprocess import MAX_DETECTIONS, activate, decode, suppress


class Timing(NamedTuple):
    """Seconds that one call took."""

    preprocess: float
    network: float
    postprocess: float


class TorchRuntime:
    """A detector in PyTorch.

    Args:
        detector: Detector in evaluation mode.
        config: Config with its size and anchors.
        device: torch.device.
    """

    name = "PyTorch"

    def __init__(self, detector, config, device):
        self.device = device
        # Channels last is what a convolution's layout is in memory on most devices, and what images come in.
        self.detector = detector.to(device, memory_format=torch.channels_last).eval()
        self.anchors = config.anchors

    @property
    def device_name(self):
        """The device in words."""
        if self.device.type == "cuda":
            return f"{self.device} ({torch.cuda.get_device_name(self.device)})"
        return f"{self.device} ({torch.get_num_threads()} threads)" if self.device.type == "cpu" else str(self.device)

    @torch.inference_mode()
    def predict_timed(self, images, conf, iou, max_det=MAX_DETECTIONS, classes=None):
        """Detections of a batch, and how long each step took.

        Args:
            images: [N, H, W, 3] uint8 array or tensor, BGR, at the network's size.
            conf, iou, max_det, classes: as in `utils.postprocess.suppress`.
        Returns:
            (list of N tensors [n, 6] (x1, y1, x2, y2, score, class) in pixels of the network's frame, Timing)
        """
        start = self._now()
        pixels = torch.as_tensor(images).to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        pixels = pixels.to(torch.float32, memory_format=torch.channels_last).div_(255)
        prepared = self._now()
        output = self.detector(pixels)
        computed = self._now()
        detections = suppress(decode(activate(output), self.anchors), conf, iou, max_det, classes)
        done = self._now()
        return detections, Timing(prepared - start, computed - prepared, done - computed)

    def predict(self, images, conf, iou, max_det=MAX_DETECTIONS, classes=None):
        """The detections of `predict_timed` alone."""
        return self.predict_timed(images, conf, iou, max_det, classes)[0]

    def _now(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def select_device(name):
    """The torch.device of a --device option: `auto` is CUDA if there is a GPU, else the CPU.

    Raises:
        InputError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"--device {name}: expected a device of this machine (auto, cpu, cuda, cuda:0 …): {reason}"
        ) from error
    return device


def load_runtime(weights, config, device="auto"):
    """What runs the network of `weights`.

    Args:
        weights: path of a .pth file.
        config: Config of the .data file that it goes with.
        device: as for `select_device`.
    Raises:
        InputError: the file does not fit, or there is no such device.
    """
    device = select_device(device)
    return TorchRuntime(load_detector(weights, config), config, device)
