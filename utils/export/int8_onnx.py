"""int8 weights and activations for ONNX Runtime: static quantization with QDQ nodes."""

from __future__ import annotations

import copy
import logging
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from utils.export.calibration import LEVELS, observe
from utils.export.graph import Predictions
from utils.export.sensitivity import IMAGES, choose_float_layers, decode_maps
from utils.optional import require
from utils.postprocess import Anchors
from utils.runtimes.onnx_runtime import INPUT, OUTPUTS, create_session

INT8_MIN_OPSET = 13  # the first with one scale per channel


def quantize(
    model: onnx.ModelProto, anchors: Anchors, images: Sequence[np.ndarray]
) -> tuple[onnx.ModelProto, dict[str, float]]:
    """Quantize a network.

    Args:
        model: float32 model of an ActivatedDetector. No two of its layers share weights, see
            `utils.export.rewrite.MergedDetector`.
        images: calibration images in the input size, each [H, W, 3] uint8, BGR.

    Returns:
        (int8 model, disagreement of each convolution that stays in float32)
    """
    pixels = [np.ascontiguousarray(image.transpose(2, 0, 1)[None]).astype(np.float32) / 255 for image in images]
    limits = _activation_limits(model, pixels)
    weight_counts = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    sizes = {node.name: weight_counts[node.input[1]] for node in model.graph.node if node.op_type == "Conv"}

    def predict(names: Sequence[str]) -> list[Predictions]:
        session = create_session(_simulate_int8(model, limits, names).SerializeToString())
        return [decode_maps(session.run(list(OUTPUTS), {INPUT: image}), anchors) for image in pixels[:IMAGES]]

    kept = choose_float_layers(sizes, predict)
    return _quantize(model, limits, [name for name in sizes if name not in kept], pixels[0]), kept


def _activation_limits(model: onnx.ModelProto, pixels: Sequence[np.ndarray]) -> dict[str, tuple[float, float]]:
    """Return the range (lowest, highest) that int8 represents, for each input and output of Conv and ReLU nodes."""
    nodes = [node for node in model.graph.node if node.op_type in ("Conv", "Relu")]
    names = sorted({name for node in nodes for name in (node.input[0], node.output[0])} - {INPUT})
    observed = copy.deepcopy(model)
    outputs = {output.name for output in observed.graph.output}
    observed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
    session = create_session(observed.SerializeToString())
    histograms = observe(lambda image: session.run(names, {INPUT: image}), pixels)
    ranges = [histogram.clip(histogram.clip_limit()) for histogram in histograms]
    return {INPUT: (0.0, 1.0), **dict(zip(names, ranges, strict=True))}


def _simulate_int8(
    model: onnx.ModelProto, limits: dict[str, tuple[float, float]], names: Sequence[str]
) -> onnx.ModelProto:
    """Copy the float32 model and round the inputs and weights of the named convolutions as int8 does.

    `quantize_static` takes seconds, too long to call it once per layer.
    """
    model = copy.deepcopy(model)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.name in names:
            kernel = initializers[node.input[1]]
            rounded = _round_kernel(onnx.numpy_helper.to_array(kernel))
            kernel.CopyFrom(onnx.numpy_helper.from_array(rounded, kernel.name))
            nodes += _round_input(node, limits[node.input[0]], model.graph)
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _round_kernel(kernel: np.ndarray) -> np.ndarray:
    """Round weights to the values that int8 can hold with one scale per output channel."""
    step = np.abs(kernel).max(axis=(1, 2, 3), keepdims=True) / LEVELS
    return (np.round(kernel / np.where(step > 0, step, 1)) * step).astype(np.float32)


def _round_input(node: onnx.NodeProto, limits: tuple[float, float], graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Create two nodes that round the input of `node`, and connect it to them."""
    low, high = limits
    scale = max((high - low) / 255, 1e-9)
    scale_name, zero_name, int8_name, rounded_name = (
        f"{node.name}:{part}" for part in ("scale", "zero", "int8", "rounded")
    )
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(scale, np.float32), scale_name))
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(round(-low / scale), np.uint8), zero_name))
    parameters = [scale_name, zero_name]
    quantize = onnx.helper.make_node("QuantizeLinear", [node.input[0], *parameters], [int8_name])
    dequantize = onnx.helper.make_node("DequantizeLinear", [int8_name, *parameters], [rounded_name])
    node.input[0] = rounded_name
    return [quantize, dequantize]


def _quantize(
    model: onnx.ModelProto, limits: dict[str, tuple[float, float]], names: Sequence[str], pixels: np.ndarray
) -> onnx.ModelProto:
    """Convert the named convolutions, and the ReLUs after them, to int8."""
    quantization = require("onnxruntime.quantization", "--int8")

    class OneImage(quantization.CalibrationDataReader):
        """The ranges are known, but ONNX Runtime requires an image."""

        def __init__(self) -> None:
            self.inputs = iter([{INPUT: pixels}])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.inputs, None)

    outputs = {node.output[0] for node in model.graph.node if node.name in names}
    relus = [node.name for node in model.graph.node if node.op_type == "Relu" and node.input[0] in outputs]
    overrides = {name: [{"rmin": np.float32(low), "rmax": np.float32(high)}] for name, (low, high) in limits.items()}
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # ONNX Runtime advises to simplify the model first, which is already done
    try:
        with tempfile.TemporaryDirectory(prefix="int8-") as folder:
            result = Path(folder, "int8.onnx")
            quantization.quantize_static(
                copy.deepcopy(model),  # it is changed
                result,
                OneImage(),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "Relu"],
                nodes_to_quantize=[*names, *relus],
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                extra_options={"TensorQuantOverrides": overrides},
            )
            return onnx.load(result)
    finally:
        logging.disable(level)
