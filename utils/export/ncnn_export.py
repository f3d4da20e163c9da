"""Export a detector to NCNN with pnnx."""

import subprocess
import tempfile
import warnings
from pathlib import Path

import torch
from torch import nn

from utils.errors import RunError
from utils.export.graph import ActivatedDetector
from utils.optional import require
from utils.runtimes.ncnn_format import PARAM_SUFFIX, Layer, bin_path, read_model
from utils.runtimes.ncnn_shapes import KINDS


def to_ncnn(detector: nn.Module, size: tuple[int, int]) -> list[Layer]:
    """Convert a network to NCNN layers with float32 weights.

    Args:
        detector: a detector rewritten by `interleave_channels`.
        size: (width, height) of the input.

    Raises:
        RunError: pnnx is missing or failed, or wrote layers that are not in KINDS.
    """
    pnnx = require("pnnx", "exporting to NCNN")
    width, height = size
    with tempfile.TemporaryDirectory(prefix="pnnx-") as folder:
        with torch.no_grad(), warnings.catch_warnings():
            # pnnx reads TorchScript, which is deprecated.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            network = torch.jit.trace(ActivatedDetector(detector), torch.zeros(1, 3, height, width))
            network.save(str(Path(folder, "model.pt")))
        command = [pnnx.EXEC_PATH, "model.pt", f"inputshape=[1,3,{height},{width}]", "fp16=0"]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        param = Path(folder, f"model{PARAM_SUFFIX}")
        if result.returncode or not (param.exists() and bin_path(param).exists()):
            lines = (result.stderr or result.stdout).strip().splitlines()
            raise RunError(f"pnnx failed with status {result.returncode}: {lines[-1] if lines else 'no message'}")
        layers = read_model(param)
    unknown = sorted({layer.type for layer in layers} - KINDS.keys())
    if unknown:
        raise RunError(f"pnnx left operations that are slow or missing in NCNN: {', '.join(unknown)}")
    return layers
