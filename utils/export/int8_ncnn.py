"""8-bit weights and activations for NCNN: what its own ncnn2table and ncnn2int8 do, from Python.

NCNN computes a quantised convolution as int8 · int8 → int32. Weights have a scale an output channel, the input has
one for all channels, and a scale is 127 divided by the largest value that is to be kept.
"""

import contextlib
import dataclasses
import tempfile
from pathlib import Path

import numpy as np

from utils.export.calibration import LEVELS, observe
from utils.export.sensitivity import IMAGES, choose_float_layers
from utils.postprocess import decode
from utils.runtimes.base import split_maps
from utils.runtimes.ncnn_format import (
    INT8_CONVOLUTION,
    INT8_DEPTHWISE,
    INT8_OUTPUT,
    INT8_SCALES,
    as_float16,
    write_bin,
    write_param,
)
from utils.runtimes.ncnn_runtime import OUTPUTS, extract, open_net, to_planes


def quantise(layers, info, images):
    """Quantise a network with calibration images.

    Args:
        layers: list of Layer with float32 weights.
        info: ModelInfo, for anchors.
        images: list of [H, W, 3] uint8 arrays, BGR, at the network's size.
    Returns:
        (list of Layer: int8 weights, float16 in the first convolutions and in those that quantise badly;
        {name: disagreement} of the latter)
    """
    inputs = sorted({layer.inputs[0] for layer in layers if layer.weights is not None})
    with _net(layers) as net:
        ranges = observe(lambda image: extract(net, to_planes(image), inputs, keep=True), images, inputs)
    limits = {name: observed.cut() for name, observed in ranges.items()}

    first = first_convolutions(layers)
    sizes = {
        layer.name: layer.weights.kernel.size
        for layer in layers
        if layer.weights is not None and layer.name not in first
    }
    some = images[:IMAGES]

    def predict(quantised):
        with _net(to_int8(layers, limits, set(quantised))) as net:
            return [_predict(net, image, info) for image in some]

    kept = choose_float_layers(sizes, predict, predict([]))
    return as_float16(to_int8(layers, limits, sizes.keys() - kept.keys())), kept


def first_convolutions(layers):
    """Names of the convolutions that read the image: NCNN is slow in computing so few channels in int8."""
    images, names = set(), set()
    for layer in layers:
        if layer.type == "Input" or (layer.type in ("Padding", "Split") and images.issuperset(layer.inputs)):
            images.update(layer.outputs)
        elif layer.weights is not None and images.issuperset(layer.inputs):
            names.add(layer.name)
    return names


def to_int8(layers, limits, names):
    """Layers with some of them in int8.

    Args:
        layers: list of Layer with float32 weights.
        limits: {name of a blob: largest value of it that is kept}, for the quantised layers' inputs.
        names: set of the names of the layers to quantise.
    Returns:
        list of Layer.
    """
    readers = {}
    for layer in layers:
        for blob in layer.inputs:
            readers.setdefault(blob, []).append(layer)
    return [_quantise(layer, limits, names, readers) if layer.name in names else layer for layer in layers]


def _quantise(layer, limits, names, readers):
    kernel = layer.weights.kernel
    largest = np.abs(kernel).max(1)
    scales = (LEVELS / np.where(largest > 0, largest, LEVELS)).astype(np.float32)
    term = INT8_DEPTHWISE if layer.is_depthwise else INT8_CONVOLUTION
    output_scale = None
    following = list(_final_readers(layer.outputs[0], readers))
    # What only quantised layers read is handed on in 8 bits.
    if following and all(reader.name in names for reader in following):
        output_scale = LEVELS / limits[following[0].inputs[0]]
        term += INT8_OUTPUT
    weights = dataclasses.replace(
        layer.weights,
        kernel=_round(kernel * scales[:, None]),
        kernel_scales=scales,
        input_scale=LEVELS / limits[layer.inputs[0]],
        output_scale=output_scale,
    )
    return dataclasses.replace(layer, params={**layer.params, INT8_SCALES: str(term)}, weights=weights)


def _final_readers(blob, readers):
    """The layers that read a blob, also by way of a Split, which only hands it on."""
    for layer in readers.get(blob, []):
        if layer.type == "Split":
            for output in layer.outputs:
                yield from _final_readers(output, readers)
        else:
            yield layer


def _round(values):
    """To int8 as NCNN does it: halves away from zero."""
    return np.clip(np.trunc(values + np.copysign(0.5, values)), -LEVELS, LEVELS).astype(np.int8)


@contextlib.contextmanager
def _net(layers):
    """An ncnn.Net of some layers."""
    with tempfile.TemporaryDirectory(prefix="ncnn-") as folder:
        param, weights = Path(folder, "model.param"), Path(folder, "model.bin")
        write_param(param, layers)
        write_bin(weights, layers)
        yield open_net(param, weights)


def _predict(net, image, info):
    import torch

    maps = [torch.from_numpy(values)[None] for values in extract(net, to_planes(image), OUTPUTS)]
    return decode(split_maps(maps, info.anchor_num), info.anchors)
