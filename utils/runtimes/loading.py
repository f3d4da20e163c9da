"""From the name of a weights file to what runs it."""

import torch

from utils.config import read_config
from utils.errors import InputError
from utils.runtimes.model_info import check_fits
from utils.weights.checkpoint import load_detector

ONNX_SUFFIX = ".onnx"
NCNN_SUFFIX = ".param"
NCNN_BIN_SUFFIX = ".bin"


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


def load_runtime(weights, config, device="auto", threads=None):
    """What runs the network of `weights`.

    Args:
        weights: path of a .pth file, or of an .onnx or .ncnn.param file that pytorch2onnx.py has made.
        config: Config of the .data file that it goes with, or its own ModelInfo.
        device: as for `select_device`; exported models run on the CPU.
        threads: of the CPU; None: as many as its runtime takes by itself.
    Returns:
        Runtime.
    Raises:
        InputError: the file does not fit, or there is no such device. RunError: a package is missing.
    """
    exported = _exported_kind(weights)
    if exported is None:
        from utils.runtimes.torch_runtime import TorchRuntime

        device = select_device(device)
        if threads:
            torch.set_num_threads(threads)
        return TorchRuntime(load_detector(weights, config), config, device)
    if device not in ("auto", "cpu"):
        raise InputError(f"--device {device}: {weights} runs on the CPU: expected auto or cpu")
    runtime = exported.open_runtime(weights, threads)
    check_fits(runtime.info, config)
    return runtime


def read_model_config(data, weights):
    """What detecting needs to know of a model: classes, size, anchors.

    Args:
        data: path of a .data file, or None when the weights say it themselves.
        weights: as for `load_runtime`.
    Returns:
        Config or ModelInfo.
    Raises:
        InputError: as `read_config`, or there is no .data file and the weights need one.
    """
    if data is not None:
        return read_config(data)
    exported = _exported_kind(weights)
    if exported is None:
        raise InputError(
            f"--data: expected the .data file that {weights} goes with; only exported models say it themselves"
        )
    return exported.read_info(weights)


def _exported_kind(weights):
    """The module that runs an exported file, or None for a .pth file."""
    if str(weights).endswith(ONNX_SUFFIX):
        from utils.runtimes import onnx_runtime

        return onnx_runtime
    if str(weights).endswith(NCNN_SUFFIX):
        from utils.runtimes import ncnn_runtime

        return ncnn_runtime
    if str(weights).endswith(NCNN_BIN_SUFFIX):
        raise InputError(f"{weights}: expected the .ncnn.param file that it belongs to")
    return None
