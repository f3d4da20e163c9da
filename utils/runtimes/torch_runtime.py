"""Running a detector in PyTorch."""

import torch

from utils.memory import keep_freed_memory
from utils.runtimes.base import Runtime
from utils.runtimes.folding import fold_batchnorm

MAX_AT_ONCE = 4  # batches; two hundred megabytes each, at 16 images


class TorchRuntime(Runtime):
    """A detector in PyTorch.

    Args:
        detector: Detector; it becomes the runtime's own: in evaluation mode, BatchNorm folded, in another layout.
        config: Config, for the anchors.
        device: torch.device.
    """

    name = "PyTorch"
    precision = "FP32"
    activated = False

    def __init__(self, detector, config, device):
        keep_freed_memory()
        self.device = device
        # Channels last is what a convolution is quickest in on most devices, and what images come in.
        self.detector = fold_batchnorm(detector).to(device, memory_format=torch.channels_last)
        self.anchors = config.anchors
        # On a CPU the network does not keep several threads busy; as many batches, a thread each, take a third less.
        self.batches_at_once = min(MAX_AT_ONCE, torch.get_num_threads()) if device.type == "cpu" else 1

    @property
    def device_name(self):
        """The device in words."""
        if self.device.type == "cuda":
            return f"{self.device} ({torch.cuda.get_device_name(self.device)})"
        return f"{self.device} ({torch.get_num_threads()} threads)" if self.device.type == "cpu" else str(self.device)

    def prepare(self, images):
        pixels = torch.as_tensor(images).to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        return (pixels / 255).contiguous(memory_format=torch.channels_last)

    def execute(self, prepared):
        return self.detector(prepared)

    def _now(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return super()._now()
