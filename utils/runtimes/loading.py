"""Choose the runtime for a weights file by its suffix. Importing this module does not import PyTorch."""

from __future__ import annotations

import os
import re
from pathlib import Path

from utils.config import Config
from utils.errors import InputError
from utils.machine import apply_threads
from utils.optional import require
from utils.runtimes.base import Runtime
from utils.runtimes.exported import ExportedRuntime
from utils.runtimes.ncnn_format import PARAM_SUFFIX, bin_path
from utils.text import list_names
from utils.weights.download import read_manifest

_EXPECTED = "a .pth, .onnx, .ncnn.param or .tflite file"
_EXPORTED = (".onnx", ".tflite", PARAM_SUFFIX)  # never downloaded
# Files of other programs, or that belong to a model. Files with any other suffix are read as PyTorch weights.
_OTHER_FORMATS = frozenset(
    {".engine", ".trt", ".xml", ".pb", ".h5", ".keras", ".safetensors", ".mlmodel", ".mnn", ".rknn"}
    | {".json", ".data", ".names", ".py", ".zip"}
)


def load_runtime(weights: str | Path, config: Config | None = None, device: str = "auto") -> Runtime:
    """Load a network and the software that executes it.

    Args:
        weights: .pth file, or .onnx, .ncnn.param or .tflite file written by pytorch2onnx.py.
        config: Config of the .data file; None if the file itself has a description.
        device: see `select_device`; exported models run on the CPU.

    Raises:
        InputError: the weights file does not exist, does not match `config` or needs one, or this machine has no such
            device.
        RunError: a package is missing.
    """
    check_weights_path(weights)
    runtime = _load_exported(weights)
    if runtime is None:
        # Imported here, because exported models run without PyTorch.
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


def check_weights_path(path: str | Path) -> None:
    """Check that a weights file exists, or can be downloaded, and that its suffix is one that a runtime reads.

    Raises:
        InputError: the file does not exist, or no runtime reads its suffix.
    """
    name = os.fspath(path)
    suffix = Path(name).suffix.lower()
    if suffix == ".bin" or (suffix == ".param" and not name.endswith(PARAM_SUFFIX)):
        param = re.sub(r"(\.ncnn)?\.\w+$", "", name, flags=re.IGNORECASE) + PARAM_SUFFIX
        found = "; that file exists" if os.path.exists(param) else ""
        raise InputError(f"{name}: expected {param}, the file that pytorch2onnx.py --ncnn writes{found}")
    if suffix in _OTHER_FORMATS:
        raise InputError(f"{name}: expected {_EXPECTED}, got a {suffix} file")
    if os.path.isdir(name):
        raise InputError(f"{name}: expected {_EXPECTED}, got a folder{_hint(Path(name))}")
    if not os.path.exists(name) and (name.lower().endswith(_EXPORTED) or Path(name).name not in read_manifest()):
        raise InputError(f"{name}: expected {_EXPECTED}, but it does not exist{_hint(Path(name).parent)}")


def _hint(folder: Path) -> str:
    """Name the weights in a folder, or nothing if there are none."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.lower().endswith((".pth", ".pt", *_EXPORTED)))
    except OSError:
        names = []
    return f"; {folder} has {list_names(names)}" if names else ""
