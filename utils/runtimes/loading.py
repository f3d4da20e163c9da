"""Choose the runtime for a weights file by its suffix."""

from __future__ import annotations

from pathlib import Path

from utils.config import Config
from utils.errors import InputError
from utils.machine import apply_threads
from utils.optional import require
from utils.runtimes.base import ExportedRuntime, Runtime
from utils.runtimes.ncnn_format import PARAM_SUFFIX, bin_path
from utils.runtimes.weights_path import check_weights_path


def load_runtime(weights: str | Path, config: Config | None = None, device: str = "auto") -> Runtime:
    """Load a network and the software that executes it.

    Args:
        weights: .pth file, or .onnx, .ncnn.param or .tflite file written by pytorch2onnx.py.
        config: Config of the .data file; None if the file itself has a description.
        device: see `select_device`; exported models run on the CPU.

    Raises:
        InputError: there is no such weights file, it does not match `config` or needs one, or this machine has no
            such device.
        RunError: a package is missing.
    """
    check_weights_path(weights)
    runtime = _load_exported(weights)
    if runtime is None:
        # Here, because exported models run without PyTorch.
        require("torch", f"{weights}: running .pth files")
        from utils.runtimes.device import select_device
        from utils.runtimes.torch_runtime import TorchRuntime
        from utils.weights.checkpoint import load_detector

        apply_threads()
        torch_device = select_device(device)
        return TorchRuntime(*load_detector(weights, config), torch_device)
    if device not in ("auto", "cpu"):
        raise InputError(f"--device {device}: expected auto or cpu, because {weights} runs on the CPU")
    if config is not None:
        runtime.info.check_fits(config)
    return runtime


def _load_exported(weights: str | Path) -> ExportedRuntime | None:
    """Load an exported model; None for a .pth file."""
    suffix = Path(weights).suffix.lower()
    if suffix == ".onnx":
        from utils.runtimes.onnx_runtime import OnnxRuntime

        return OnnxRuntime(weights)
    if suffix == ".tflite":
        from utils.runtimes.tflite_runtime import TfliteRuntime

        return TfliteRuntime(weights)
    if suffix == ".param":
        from utils.runtimes.ncnn_runtime import NcnnRuntime

        return NcnnRuntime(weights)
    return None


def model_files(weights: str | Path) -> list[Path]:
    """Return the files of a network, without the .json file that describes it; the last one has the weights."""
    path = Path(weights)
    return [path, bin_path(path)] if path.name.endswith(PARAM_SUFFIX) else [path]
