"""8-bit weights and activations for ONNX Runtime: static quantisation with QDQ nodes."""

import copy
import logging
import math
import tempfile
from pathlib import Path

import numpy as np
import torch

from utils.export.calibration import LEVELS, observe
from utils.export.onnx_export import INPUT, OUTPUTS, PURPOSE
from utils.export.sensitivity import IMAGES, choose_float_layers
from utils.optional import require
from utils.postprocess import decode
from utils.runtimes.base import split_maps
from utils.runtimes.model_info import to_content, to_metadata

LEAST_OPSET = 13  # the first with a scale a channel


def quantise(model, info, images):
    """Quantise a network with calibration images.

    Args:
        model: onnx.ModelProto with two outputs, float32.
        info: ModelInfo that says INT8.
        images: list of [H, W, 3] uint8 arrays, BGR, at the network's size.
    Returns:
        (onnx.ModelProto, {name: disagreement} of the convolutions that stay in float32)
    """
    onnx = require("onnx", PURPOSE)
    model = with_own_weights(model)
    pixels = [np.ascontiguousarray(image.transpose(2, 0, 1)[None]).astype(np.float32) / 255 for image in images]
    limits = _limits(model, pixels)
    kernels = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    sizes = {node.name: kernels[node.input[1]] for node in model.graph.node if node.op_type == "Conv"}

    def predict(names):
        session = _session(_imitate(model, limits, names))
        return [_predict(session, image, info) for image in pixels[:IMAGES]]

    kept = choose_float_layers(sizes, predict, predict([]))
    quantised = _quantise(model, limits, [name for name in sizes if name not in kept], pixels[0])
    onnx.helper.set_model_props(quantised, to_metadata(to_content(info, INPUT, OUTPUTS)))
    onnx.checker.check_model(quantised, full_check=True)
    return quantised, kept


def with_own_weights(model):
    """A copy of the model in which no two nodes share a weight.

    The output layers serve both scales. A quantised bias is in units of its layer's input, which differ, and ONNX
    Runtime would take those of the first scale for both.
    """
    model = copy.deepcopy(model)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    used = set()
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name in initializers and name in used:
                own = copy.deepcopy(initializers[name])
                own.name = f"{name}:{node.name}"
                model.graph.initializer.append(own)
                node.input[position] = own.name
            used.add(name)
    return model


def _limits(model, pixels):
    """{tensor: (lowest, highest) value that is kept} of what convolutions read and write, and of ReLU's outputs."""
    names = sorted(
        {
            name
            for node in model.graph.node
            if node.op_type in ("Conv", "Relu")
            for name in (node.input[0], node.output[0])
        }
        - {INPUT}
    )
    observing = copy.deepcopy(model)
    known = {output.name for output in observing.graph.output}
    observing.graph.output.extend(type(model.graph.output[0])(name=name) for name in names if name not in known)
    session = _session(observing)
    ranges = observe(lambda image: session.run(names, {INPUT: image}), pixels, names)
    limits = {INPUT: (0.0, 1.0)}
    for name, observed in ranges.items():
        cut = observed.cut()
        limits[name] = (max(observed.lowest, -cut), min(observed.highest, cut))
    return limits


def _imitate(model, limits, names):
    """The model in float32 with some convolutions rounding their input and weights as int8 does.

    Quantising it with ONNX Runtime takes seconds, too long to do for every layer.
    """
    onnx = require("onnx", PURPOSE)
    model = copy.deepcopy(model)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.name in names:
            kernel = weights[node.input[1]]
            kernel.CopyFrom(
                onnx.numpy_helper.from_array(_rounded_kernel(onnx.numpy_helper.to_array(kernel)), kernel.name)
            )
            nodes += _rounding(node, limits[node.input[0]], onnx, model.graph.initializer)
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _rounded_kernel(kernel):
    """Weights at the values that int8 leaves them, a scale an output channel."""
    step = np.abs(kernel).max(axis=(1, 2, 3), keepdims=True) / LEVELS
    return (np.round(kernel / np.where(step > 0, step, 1)) * step).astype(np.float32)


def _rounding(node, limits, onnx, initializers):
    """Two nodes that round what `node` reads; it then reads their output."""
    low, high = limits
    scale = max((high - low) / 255, 1e-9)
    names = [f"{node.name}:{part}" for part in ("scale", "zero", "int8", "rounded")]
    zero = np.array(round(-low / scale), np.uint8)
    initializers.append(onnx.numpy_helper.from_array(np.array(scale, np.float32), names[0]))
    initializers.append(onnx.numpy_helper.from_array(zero, names[1]))
    quantise = onnx.helper.make_node("QuantizeLinear", [node.input[0], *names[:2]], [names[2]])
    restore = onnx.helper.make_node("DequantizeLinear", [names[2], *names[:2]], [names[3]])
    node.input[0] = names[3]
    return quantise, restore


def _quantise(model, limits, names, image):
    """The model with some of its convolutions in int8."""
    quantization = require("onnxruntime.quantization", "--int8")
    onnx = require("onnx", PURPOSE)

    class OneImage(quantization.CalibrationDataReader):
        """Ranges are given; ONNX Runtime wants to see an image all the same."""

        def __init__(self):
            self.left = [{INPUT: image}]

        def get_next(self):
            return self.left.pop() if self.left else None

    overrides = {name: [{"rmin": np.float32(low), "rmax": np.float32(high)}] for name, (low, high) in limits.items()}
    with tempfile.TemporaryDirectory(prefix="int8-") as folder, _quiet():
        result = Path(folder, "int8.onnx")
        quantization.quantize_static(
            copy.deepcopy(model),
            result,
            OneImage(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Relu"],
            nodes_to_quantize=_with_activations(model, names),
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            extra_options={"TensorQuantOverrides": overrides},
        )
        return onnx.load(result)


def _with_activations(model, names):
    """The names of convolutions, and those of the ReLUs behind them."""
    outputs = {node.output[0] for node in model.graph.node if node.name in set(names)}
    return [*names, *(node.name for node in model.graph.node if node.op_type == "Relu" and node.input[0] in outputs)]


def _session(model):
    ort = require("onnxruntime", PURPOSE)
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _predict(session, image, info):
    maps = [torch.from_numpy(values) for values in session.run(list(OUTPUTS), {INPUT: image})]
    return decode(split_maps(maps, info.anchor_num), info.anchors)


class _quiet:
    """ONNX Runtime advises to prepare the model, which has been done, by a warning of the root logger."""

    def __enter__(self):
        self.before = logging.root.manager.disable
        logging.disable(logging.WARNING)

    def __exit__(self, *error):
        logging.disable(self.before)
