"""int8 weights and activations for ONNX Runtime: static quantization with QDQ nodes."""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from utils.export.calibration import observe
from utils.optional import require
from utils.runtimes.onnx_runtime import INPUT, create_session

INT8_MIN_OPSET = 13  # the first with one scale per channel
# Layers that stay in float32, up to the first maps with an eighth of the input size: with them in int8, the network
# takes 1.2 times as long.
FLOAT_LAYERS = ("/detector/backbone/first_conv/", "/detector/backbone/stage2/branch_")


def quantize(model: onnx.ModelProto, images: Sequence[np.ndarray]) -> onnx.ModelProto:
    """Quantize the convolutions and ReLUs of a network, except for FLOAT_LAYERS.

    Args:
        model: float32 model of an ActivatedDetector. No two of its layers share weights, see
            `utils.export.rewrite.MergedDetector`.
        images: calibration images in the input size, each [H, W, 3] uint8, BGR.
    """
    pixels = [np.ascontiguousarray(image.transpose(2, 0, 1)[None]).astype(np.float32) / 255 for image in images]
    return _quantize(model, _activation_limits(model, pixels), pixels[0])


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


def _quantize(model: onnx.ModelProto, limits: dict[str, tuple[float, float]], pixels: np.ndarray) -> onnx.ModelProto:
    """Convert convolutions and ReLUs to int8, with known ranges."""
    quantization = require("onnxruntime.quantization", "--int8")

    class OneImage(quantization.CalibrationDataReader):
        """The ranges are known, but ONNX Runtime requires an image."""

        def __init__(self) -> None:
            self.inputs = iter([{INPUT: pixels}])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.inputs, None)

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
                nodes_to_exclude=[node.name for node in model.graph.node if node.name.startswith(FLOAT_LAYERS)],
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                extra_options={"TensorQuantOverrides": overrides},
            )
            return onnx.load(result)
    finally:
        logging.disable(level)
