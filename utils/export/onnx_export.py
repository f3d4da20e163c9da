"""A detector to an .onnx file."""

import warnings

import torch

from utils.optional import require
from utils.runtimes.model_info import to_content, to_metadata
from utils.runtimes.onnx_runtime import DETECTIONS

INPUT = "images"
OUTPUTS = ("stride16", "stride32")
PURPOSE = "exporting to ONNX"


def to_onnx(module, info, opset, dynamic_batch=False, dynamic_size=False):
    """Trace, simplify and describe a network.

    Args:
        module: ActivatedDetector or EndToEndDetector.
        info: ModelInfo that goes into the file's metadata.
        opset: version of ONNX's operators.
        dynamic_batch, dynamic_size: whether a user of the file chooses the number of images, and their size.
    Returns:
        onnx.ModelProto, checked.
    Raises:
        RunError: a package is missing.
    """
    onnx, onnxslim = require("onnx", PURPOSE), require("onnxslim", PURPOSE)
    ends_with_detections = hasattr(module, "anchors")
    outputs = (DETECTIONS,) if ends_with_detections else OUTPUTS
    traced = _trace(module, info, opset, _dynamic_axes(outputs, dynamic_batch, dynamic_size), outputs)
    model = onnxslim.slim(traced)
    onnx.helper.set_model_props(model, to_metadata(to_content(info, INPUT, outputs)))
    onnx.checker.check_model(model, full_check=True)
    return model


def to_half(model, info):
    """The model with its weights and its network in float16; input, outputs and decoding stay in float32.

    Args:
        model: onnx.ModelProto from `to_onnx`.
        info: ModelInfo that says so.
    """
    onnx = require("onnx", PURPOSE)
    float16 = require("onnxruntime.transformers.float16", "--half")
    # Only the network: a box's corner in float16 would be a quarter of a pixel off.
    blocked = [node.name for node in model.graph.node if not is_in_network(node)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about weights too small for float16, which become 0
        half = float16.convert_float_to_float16(model, keep_io_types=True, node_block_list=blocked)
    half = require("onnxslim", PURPOSE).slim(half)  # which also puts the added nodes where they belong
    outputs = [output.name for output in half.graph.output]
    onnx.helper.set_model_props(half, to_metadata(to_content(info, INPUT, outputs)))
    onnx.checker.check_model(half, full_check=True)
    return half


def is_in_network(node):
    """Whether a node of an exported graph belongs to the detector, not to what was put behind it."""
    return node.name.startswith("/detector/")


def _trace(module, info, opset, dynamic_axes, outputs):
    """The module as an onnx.ModelProto."""
    import io

    import onnx

    image = torch.zeros(1, 3, info.height, info.width)
    buffer = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        # The exporter by tracing is deprecated in favour of one that writes no operator set below 18, which many
        # converters on devices do not read.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        torch.onnx.export(
            module,
            (image,),
            buffer,
            input_names=[INPUT],
            output_names=list(outputs),
            opset_version=opset,
            dynamic_axes=dynamic_axes,
            **_by_tracing(),
        )
    return onnx.load_from_string(buffer.getvalue())


def _by_tracing():
    """The argument that chooses the exporter by tracing, where PyTorch has another one."""
    import inspect

    return {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}


def _dynamic_axes(outputs, batch, size):
    axes = {name: {} for name in (INPUT, *outputs)}
    if outputs == (DETECTIONS,):
        axes[DETECTIONS][0] = "found"
    elif batch:
        for entry in axes.values():
            entry[0] = "batch"
    if size:
        axes[INPUT].update({2: "height", 3: "width"})
        if outputs != (DETECTIONS,):
            for name in outputs:
                axes[name].update({1: f"rows_{name}", 2: f"columns_{name}"})
    return {name: entry for name, entry in axes.items() if entry}
