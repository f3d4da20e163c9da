"""int8 weights and activations for TFLite: static quantization of all layers, for microcontrollers and NPUs too.

Weights have one scale per output channel, activations one per tensor. Slices, concatenations, pools and paddings copy
values. All tensors that such a layer connects get the same scale, so that it only copies bytes. The input is the pixel
minus 128; the outputs have the scale 1/256.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.export.calibration import ALL_LEVELS, LEVELS, observe
from utils.export.tflite_export import PURPOSE
from utils.optional import require
from utils.runtimes.tflite_runtime import no_output, open_interpreter

# Layers that copy values, or select the largest one.
COPYING = (
    *("SLICE", "STRIDED_SLICE", "SPLIT", "CONCATENATION", "PAD", "PADV2", "TRANSPOSE", "RESHAPE"),
    *("MAX_POOL_2D", "RESIZE_NEAREST_NEIGHBOR"),
)
SIGMOID = "LOGISTIC"
PROBABILITIES = (SIGMOID, "SOFTMAX")  # TFLite fixes the scale of their outputs
PIXEL_RANGE = (0.0, 1.0)
PROBABILITY_RANGE = (0.0, 255 / 256)


class Layer(NamedTuple):
    """A layer of a network; tensors are given by their index."""

    kind: str
    inputs: list[int]  # without constants
    outputs: list[int]


class Group(NamedTuple):
    """Tensors that share one scale."""

    tensors: list[int]
    computed: list[int]  # those that a layer computes; the others are copies
    range: tuple[float, float] | None  # None: to be measured
    feeds_sigmoid: bool


def quantize(model: bytes, images: Sequence[np.ndarray]) -> bytes:
    """Quantize a network.

    Args:
        model: float32 TFLite model.
        images: calibration images in the input size, each [H, W, 3] uint8, BGR.

    Raises:
        RunError: a package is missing.
    """
    quantizer = require("ai_edge_quantizer.quantizer", PURPOSE)
    recipe = require("ai_edge_quantizer.recipe", PURPOSE)
    names, inputs, layers = _read_layers(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LiteRT warns that keeping all tensors is for debugging
        ranges = _measure(model, join_scales(inputs, layers), images)
    limits = {
        names[tensor]: {"min": np.float32(low), "max": np.float32(high)} for tensor, (low, high) in ranges.items()
    }
    with no_output():
        result = quantizer.Quantizer(bytearray(model), recipe.static_wi8_ai8()).quantize(limits)
    return bytes(result.quantized_model)


def join_scales(inputs: Sequence[int], layers: Sequence[Layer]) -> list[Group]:
    """Find the tensors that share a scale.

    Args:
        inputs: tensors that the network reads.
        layers: in the order in which they run.
    """
    group_of = {tensor: {tensor} for tensor in inputs}
    computed = set(inputs)
    fixed, logits = dict.fromkeys(inputs, PIXEL_RANGE), set()
    for layer in layers:
        group_of.update({tensor: {tensor} for tensor in layer.outputs})
        if layer.kind in COPYING:
            joined = set().union(*(group_of[tensor] for tensor in (*layer.inputs, *layer.outputs)))
            group_of.update(dict.fromkeys(joined, joined))
        else:
            computed.update(layer.outputs)
        if layer.kind in PROBABILITIES:
            fixed.update(dict.fromkeys(layer.outputs, PROBABILITY_RANGE))
        if layer.kind == SIGMOID:
            logits.update(layer.inputs)
    groups = {id(group): group for group in group_of.values()}.values()
    return [
        Group(
            tensors=sorted(group),
            computed=sorted(computed & group),
            range=next((fixed[tensor] for tensor in group & fixed.keys()), None),
            feeds_sigmoid=not logits.isdisjoint(group),
        )
        for group in groups
    ]


def _read_layers(model: bytes) -> tuple[list[str], list[int], list[Layer]]:
    """Return the names of all tensors, the tensors that the network reads, and its layers."""
    schema = require("ai_edge_litert.schema_py_generated", PURPOSE)
    content = schema.ModelT.InitFromPackedBuf(model, 0)
    graph = content.subgraphs[0]
    kind_names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    kinds = [kind_names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in content.operatorCodes]
    constant = [content.buffers[tensor.buffer].data is not None for tensor in graph.tensors]
    layers = [
        Layer(
            kinds[layer.opcodeIndex],
            [tensor for tensor in layer.inputs if tensor >= 0 and not constant[tensor]],
            list(layer.outputs),
        )
        for layer in graph.operators
    ]
    return [tensor.name.decode() for tensor in graph.tensors], list(graph.inputs), layers


def _measure(model: bytes, groups: Sequence[Group], images: Sequence[np.ndarray]) -> dict[int, tuple[float, float]]:
    """Return the range (lowest, highest) that int8 represents, for each tensor."""
    with no_output():  # the first interpreter of a process reports its delegate
        interpreter = open_interpreter(model, Path("float32.tflite"), experimental_preserve_all_tensors=True)
    entry = interpreter.get_input_details()[0]["index"]
    measured = [group for group in groups if group.range is None]

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        interpreter.set_tensor(entry, pixels)
        interpreter.invoke()
        return [
            np.concatenate([interpreter.get_tensor(tensor).ravel() for tensor in group.computed]) for group in measured
        ]

    pixels = [image[None].astype(np.float32) / 255 for image in images]
    ranges = {}
    for group, histogram in zip(measured, observe(run, pixels), strict=True):
        if group.feeds_sigmoid:
            limit = histogram.sigmoid_clip_limit()
        else:
            limit = histogram.clip_limit(ALL_LEVELS if histogram.lowest >= 0 else LEVELS)
        ranges.update(dict.fromkeys(group.tensors, histogram.clip(limit)))
    for group in groups:
        if group.range is not None:
            ranges.update(dict.fromkeys(group.tensors, group.range))
    return ranges
