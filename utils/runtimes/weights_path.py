"""Check the path of a weights file without importing PyTorch, which takes seconds."""

from __future__ import annotations

import os
from pathlib import Path

from utils.errors import InputError
from utils.runtimes.ncnn_format import PARAM_SUFFIX
from utils.text import list_names
from utils.weights.download import read_manifest

_EXPECTED = "a .pth, .onnx, .ncnn.param or .tflite file"
_EXPORTED = (".onnx", ".tflite", PARAM_SUFFIX)  # never downloaded
# Files of other programs, or that belong to a model. Files with any other suffix are read as PyTorch weights.
_OTHER_FORMATS = frozenset(
    {".engine", ".trt", ".xml", ".pb", ".h5", ".keras", ".safetensors", ".mlmodel", ".mnn", ".rknn"}
    | {".json", ".data", ".names", ".py", ".zip"}
)


def check_weights_path(path: str | Path) -> None:
    """Check that a weights file exists, or can be downloaded, and that its suffix is one that a runtime reads.

    Raises:
        InputError: it does not.
    """
    name = os.fspath(path)
    suffix = Path(name).suffix.lower()
    if suffix == ".bin" or (suffix == ".param" and not name.endswith(PARAM_SUFFIX)):
        param = name.removesuffix(Path(name).suffix).removesuffix(".ncnn") + PARAM_SUFFIX
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
        names = sorted(name for name in os.listdir(folder) if name.endswith((".pth", ".pt", *_EXPORTED)))
    except OSError:
        names = []
    return f"; {folder} has {list_names(names)}" if names else ""
