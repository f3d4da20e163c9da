"""Export a detector to ONNX."""

from __future__ import annotations

import inspect
import io
import json
import warnings
from typing import TYPE_CHECKING

import torch

from utils.export.graph import ActivatedDetector, EndToEndDetector
from utils.optional import require
from utils.runtimes.model_info import ModelInfo
from utils.runtimes.onnx_runtime import DETECTIONS, INPUT, OUTPUTS

if TYPE_CHECKING:
    import onnx

PURPOSE = "exporting to ONNX"


def to_onnx(
    module: ActivatedDetector | EndToEndDetector,
    size: tuple[int, int],
    opset: int,
    dynamic_batch: bool = False,
    dynamic_size: bool = False,
) -> onnx.ModelProto:
    """Trace and simplify a network.

    Args:
        size: (width, height) of the input.
        dynamic_size: allow any input size that is a multiple of 32.

    Raises:
        RunError: a package is missing.
    """
    onnx, onnxslim = require("onnx", PURPOSE), require("onnxslim", PURPOSE)
    outputs = (DETECTIONS,) if isinstance(module, EndToEndDetector) else OUTPUTS
    # The tracing exporter is deprecated, but its successor needs opset 18, which many devices cannot run.
    tracing = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    buffer = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        torch.onnx.export(
            module,
            (torch.zeros(1, 3, size[1], size[0]),),
            buffer,
            input_names=[INPUT],
            output_names=list(outputs),
            opset_version=opset,
            dynamic_axes=_dynamic_axes(outputs, dynamic_batch, dynamic_size),
            **tracing,
        )
    return onnxslim.slim(onnx.load_from_string(buffer.getvalue()))


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert the weights and the network to float16. Input, outputs, decoding and NMS stay in float32."""
    float16 = require("onnxruntime.transformers.float16", "--half")
    # Decoding stays in float32, because a corner in float16 is wrong by up to a quarter of a pixel.
    blocked = [node.name for node in model.graph.node if not node.name.startswith("/detector/")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about weights that are too small for float16 and become 0
        half = float16.convert_float_to_float16(model, keep_io_types=True, node_block_list=blocked)
    return require("onnxslim", PURPOSE).slim(half)  # also sorts the added nodes into the graph


def add_description(model: onnx.ModelProto, info: ModelInfo) -> None:
    """Write the description into the metadata and check the complete model."""
    onnx = require("onnx", PURPOSE)
    content = info.to_dict(INPUT, [output.name for output in model.graph.output])
    metadata = {key: json.dumps(value, ensure_ascii=False) for key, value in content.items()}
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)


def _dynamic_axes(outputs: tuple[str, ...], batch: bool, size: bool) -> dict[str, dict[int, str]]:
    axes = {name: {} for name in (INPUT, *outputs)}
    if outputs == (DETECTIONS,):
        axes[DETECTIONS][0] = "found"
    elif batch:
        for entry in axes.values():
            entry[0] = "batch"
    if size:
        axes[INPUT].update({2: "height", 3: "width"})
        if outputs == OUTPUTS:
            for name in outputs:
                axes[name].update({1: f"rows_{name}", 2: f"columns_{name}"})
    return {name: entry for name, entry in axes.items() if entry}
