"""Export a detector to TFLite with LiteRT's converter."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from utils.errors import RunError
from utils.export.graph import ActivatedDetector
from utils.optional import require
from utils.runtimes.tflite_runtime import no_output
from utils.text import first_line

PURPOSE = "exporting to TFLite (in its own environment, see docs/export.md#tflite)"


def to_tflite(detector: nn.Module, size: tuple[int, int]) -> bytes:
    """Convert a network to a float32 TFLite model with input [1, H, W, 3] and outputs [1, rows, columns, values].

    Args:
        detector: a detector rewritten by `slice_channels`.
        size: (width, height) of the input.

    Raises:
        RunError: a package is missing, or the conversion failed.
    """
    with tqdm(total=1, desc="converting to TFLite", bar_format="{desc} …", disable=None, leave=False):
        with no_output():
            litert_torch = require("litert_torch", PURPOSE)
            require("ai_edge_litert.interpreter", PURPOSE)  # runs the model, after the conversion
        module = ActivatedDetector(_pad_with_zeros(copy.deepcopy(detector)))
        with tempfile.TemporaryDirectory(prefix="tflite-") as folder:
            path = Path(folder, "model.tflite")
            try:
                with torch.no_grad(), no_output():
                    channels_last = litert_torch.to_channel_last_io(module, args=[0])
                    litert_torch.convert(channels_last, (torch.zeros(1, size[1], size[0], 3),)).export(str(path))
            except Exception as error:  # the converter raises many kinds
                raise RunError(f"litert_torch failed: {first_line(error)}") from error
            return _shorten_names(path.read_bytes())


def _shorten_names(model: bytes) -> bytes:
    """Name the tensors after their indices; the converter's names would be a third of an int8 file.

    They are not removed (`flatbuffer_utils.strip_strings`), because the quantizer identifies tensors by name.
    """
    tools = require("ai_edge_litert.tools.flatbuffer_utils", PURPOSE)
    content = tools.read_model_from_bytearray(bytearray(model))
    for index, tensor in enumerate(content.subgraphs[0].tensors):
        tensor.name = f"t{index}"
    return bytes(tools.convert_object_to_bytearray(content))


def _pad_with_zeros(detector: nn.Module) -> nn.Module:
    """Let the max pooling pad with zeros instead of −∞, which int8 cannot represent. Its input is not negative."""
    pool = getattr(detector.backbone, "maxpool", None)
    if isinstance(pool, nn.MaxPool2d):
        unpadded = nn.MaxPool2d(pool.kernel_size, pool.stride)
        detector.backbone.maxpool = nn.Sequential(nn.ZeroPad2d(pool.padding), unpadded)
    return detector
