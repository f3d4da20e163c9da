"""Select the PyTorch device."""

import torch

from utils.errors import InputError
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
