"""Select and describe the PyTorch device."""

import torch

from utils.errors import InputError
from utils.runtimes.base import cpu_name
from utils.text import first_line


def select_device(name: str) -> torch.device:
    """Return the device for a value of --device; `auto` is CUDA if there is a GPU, else the CPU.

    Raises:
        InputError: this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"--device {name}: expected a device of this machine (auto, cpu, cuda, cuda:0 …): {first_line(error)}"
        ) from error
    return device


def describe_device(device: torch.device) -> str:
    """Name a device for messages, for example `cuda:0 (NVIDIA H100)` or `cpu (2 threads)`."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return cpu_name(torch.get_num_threads()) if device.type == "cpu" else str(device)
