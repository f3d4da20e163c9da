"""int8 weights and activations for NCNN, as NCNN's tools ncnn2table and ncnn2int8 make them.

NCNN computes a quantized convolution as int8 · int8 → int32. Weights have one scale per output channel, the input has
one scale. A scale is 127 divided by the largest absolute value that is not clipped.

Depthwise convolutions stay in floating point. They have a tenth of the weights, and NCNN needs up to six times as long
for them in int8, see docs/benchmarks.md.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.export.calibration import LEVELS, observe
from utils.export.graph import Predictions
from utils.export.sensitivity import IMAGES, choose_float_layers, decode_maps
from utils.postprocess import Anchors
from utils.runtimes.ncnn_format import (
    INT8_CONVOLUTION,
    INT8_OUTPUT,
    INT8_SCALES,
    Layer,
    as_float16,
    write_model,
)
from utils.runtimes.ncnn_runtime import OUTPUTS, extract, open_net, to_planes

if TYPE_CHECKING:
    import ncnn


def quantize(
    layers: Sequence[Layer], anchors: Anchors, images: Sequence[np.ndarray]
) -> tuple[list[Layer], dict[str, float]]:
    """Quantize a network.

    Args:
        layers: with float32 weights.
        images: calibration images in the input size, each [H, W, 3] uint8, BGR.

    Returns:
        (quantized layers, disagreement of each convolution that int8 changes too much). These convolutions,
        `first_convolutions` and depthwise convolutions have float16 weights.
    """
    inputs = sorted({layer.inputs[0] for layer in layers if layer.weights is not None})
    with _temporary_net(layers) as net:
        histograms = observe(lambda image: extract(net, to_planes(image), inputs, keep=True), images)
    limits = {name: histogram.clip_limit() for name, histogram in zip(inputs, histograms, strict=True)}

    first = first_convolutions(layers)
    sizes = {
        layer.name: layer.weights.kernel.size
        for layer in layers
        if layer.type == "Convolution" and layer.name not in first
    }

    def predict(names: Sequence[str]) -> list[Predictions]:
        with _temporary_net(to_int8(layers, limits, names)) as net:
            outputs = [extract(net, to_planes(image), OUTPUTS) for image in images[:IMAGES]]
        return [decode_maps((values[None] for values in maps), anchors) for maps in outputs]

    kept = choose_float_layers(sizes, predict)
    return as_float16(to_int8(layers, limits, sizes.keys() - kept.keys())), kept


def first_convolutions(layers: Sequence[Layer]) -> set[str]:
    """Return the names of the convolutions that read the image. With only three channels, NCNN is slow in int8."""
    image_blobs, names = set(), set()
    for layer in layers:
        reads_image = image_blobs.issuperset(layer.inputs)
        if layer.type == "Input" or (layer.type in ("Padding", "Split") and reads_image):
            image_blobs.update(layer.outputs)
        elif layer.weights is not None and reads_image:
            names.add(layer.name)
    return names


def to_int8(layers: Sequence[Layer], limits: dict[str, float], names: Collection[str]) -> list[Layer]:
    """Convert some layers to int8.

    Args:
        layers: with float32 weights.
        limits: for each blob that a converted layer reads, the largest absolute value that is not clipped.
        names: of the layers to convert; none is depthwise.
    """
    readers = {}
    for layer in layers:
        for blob in layer.inputs:
            readers.setdefault(blob, []).append(layer)
    return [_quantize(layer, limits, names, readers) if layer.name in names else layer for layer in layers]


def _quantize(layer: Layer, limits: dict[str, float], names: Collection[str], readers: dict[str, list[Layer]]) -> Layer:
    kernel = layer.weights.kernel
    largest = np.abs(kernel).max(1)
    scales = (LEVELS / np.where(largest > 0, largest, LEVELS)).astype(np.float32)
    term, output_scale = INT8_CONVOLUTION, None
    following = list(_final_readers(layer.outputs[0], readers))
    # An output that only int8 layers read is stored in int8.
    if following and all(reader.name in names for reader in following):
        output_scale = LEVELS / limits[following[0].inputs[0]]
        term += INT8_OUTPUT
    weights = replace(
        layer.weights,
        kernel=_round(kernel * scales[:, None]),
        kernel_scales=scales,
        input_scale=LEVELS / limits[layer.inputs[0]],
        output_scale=output_scale,
    )
    return replace(layer, params={**layer.params, INT8_SCALES: str(term)}, weights=weights)


def _final_readers(blob: str, readers: dict[str, list[Layer]]) -> Iterator[Layer]:
    """Yield the layers that read a blob directly or through a Split, which only copies it."""
    for layer in readers.get(blob, []):
        if layer.type == "Split":
            for output in layer.outputs:
                yield from _final_readers(output, readers)
        else:
            yield layer


def _round(values: np.ndarray) -> np.ndarray:
    """Round to int8 as NCNN does: halves away from zero."""
    return np.clip(np.trunc(values + np.copysign(0.5, values)), -LEVELS, LEVELS).astype(np.int8)


@contextlib.contextmanager
def _temporary_net(layers: Sequence[Layer]) -> Iterator[ncnn.Net]:
    """Load layers into NCNN."""
    with tempfile.TemporaryDirectory(prefix="ncnn-") as folder:
        param = Path(folder, "model.param")
        write_model(param, layers)
        yield open_net(param)
