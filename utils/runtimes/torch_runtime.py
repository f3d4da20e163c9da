"""Run a detector in PyTorch."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from model import DetectorOutput
from model.detector import Detector
from utils.config import Config
from utils.machine import keep_freed_memory
from utils.runtimes.base import Runtime
from utils.runtimes.device import describe_device
from utils.weights.model_description import ModelDescription

MAX_BATCHES_AT_ONCE = 4  # each needs about 200 MB with 16 images


class TorchRuntime(Runtime):
    """A detector in PyTorch.

    Args:
        detector: changed in place: evaluation mode, BatchNorm folded, channels last.
        info: class names, input size and anchors of the detector.
    """

    name = "PyTorch"
    precision = "FP32"
    activated = False

    def __init__(self, detector: Detector, info: Config | ModelDescription, device: torch.device) -> None:
        keep_freed_memory()
        self.device, self.torch_device = str(device), device
        # Convolutions are fastest with channels last on most devices, and images already have this layout.
        self.detector = fold_batchnorm(detector).to(device, memory_format=torch.channels_last)
        self.info = info
        # On a CPU, one batch does not keep several threads busy; one batch per thread takes a third less time.
        self.batches_at_once = min(MAX_BATCHES_AT_ONCE, torch.get_num_threads()) if device.type == "cpu" else 1

    @property
    def device_name(self) -> str:
        return describe_device(self.torch_device)

    def set_threads(self, count: int) -> None:
        torch.set_num_threads(count)

    def prepare(self, images: np.ndarray | torch.Tensor) -> torch.Tensor:
        pixels = torch.as_tensor(images).to(self.torch_device, non_blocking=True).permute(0, 3, 1, 2)
        return (pixels / 255).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def execute(self, prepared: torch.Tensor) -> DetectorOutput:
        return self.detector(prepared)

    def now(self) -> float:
        if self.torch_device.type == "cuda":
            torch.cuda.synchronize(self.torch_device)
        return super().now()


def fold_batchnorm(network: nn.Module) -> nn.Module:
    """Fold each BatchNorm2d into the Conv2d before it in an nn.Sequential, in place, and return the network.

    The network is put into evaluation mode, the only mode in which the result is valid.
    """
    network.eval()
    for sequence in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for index, (layer, following) in enumerate(itertools.pairwise(sequence)):
            if isinstance(layer, nn.Conv2d) and type(following) is nn.BatchNorm2d:
                sequence[index] = fuse_conv_bn_eval(layer, following)
                sequence[index + 1] = nn.Identity()
    return network
