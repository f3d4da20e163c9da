"""A detector to NCNN's layers, by way of pnnx."""

import subprocess
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import torch

from utils.errors import RunError
from utils.optional import require
from utils.runtimes.ncnn_format import read_model

# What the network is made of in NCNN. Anything else would be an operation that pnnx could not express.
LAYERS = {
    *("Input", "Convolution", "ConvolutionDepthWise", "Pooling", "Interp"),
    *("ShuffleChannel", "Slice", "Split", "Concat", "Softmax", "Sigmoid", "Permute"),
    *("Padding", "BinaryOp", "ReLU"),
}


def to_ncnn(module, info):
    """The layers of a network, with float32 weights.

    Args:
        module: ActivatedDetector, of a detector in the form `for_ncnn`.
        info: ModelInfo, for the size.
    Returns:
        list of Layer.
    Raises:
        RunError: pnnx is missing, failed, or left operations that NCNN does not have.
    """
    pnnx = require("pnnx", "exporting to NCNN")
    image = torch.zeros(1, 3, info.height, info.width)
    with tempfile.TemporaryDirectory(prefix="pnnx-") as folder:
        with torch.no_grad(), warnings.catch_warnings():
            # TorchScript is deprecated; it is what pnnx reads.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            torch.jit.trace(module, image).save(str(Path(folder, "model.pt")))
        shape = f"inputshape=[1,3,{info.height},{info.width}]"
        command = [pnnx.EXEC_PATH, "model.pt", shape, "fp16=0"]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        param, weights = Path(folder, "model.ncnn.param"), Path(folder, "model.ncnn.bin")
        if result.returncode or not (param.exists() and weights.exists()):
            said = (result.stderr or result.stdout).strip().splitlines()
            raise RunError(f"pnnx failed with status {result.returncode}: {said[-1] if said else 'it said nothing'}")
        layers = read_model(param, weights)
    unknown = sorted({layer.type for layer in layers} - LAYERS)
    if unknown:
        raise RunError(f"pnnx left operations that NCNN runs slowly or not at all: {', '.join(unknown)}")
    return layers


def operators(layers):
    """How many layers of each type there are, as text."""
    return ", ".join(f"{count} {kind}" for kind, count in Counter(layer.type for layer in layers).most_common())
