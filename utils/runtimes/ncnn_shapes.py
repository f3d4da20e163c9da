"""Check an NCNN network before NCNN reads it: its graph, its parameters, and the shape of each blob.

NCNN trusts its files: a pad, kernel, scale or slice that does not fit crashes the process. Only the layers and
parameters that pytorch2onnx.py writes are accepted. NCNN's "operators.md" explains the keys of the parameters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.errors import InputError
from utils.runtimes.ncnn_format import GROUPS, HAS_BIAS, INT8_SCALES, OUTPUT_CHANNELS, WEIGHT_SIZE, WEIGHTED, Layer

Shape = tuple[int, int, int]  # channels, height, width

MAX_BYTES = 2**32  # of all blobs in float32
_MAX_LAYERS = 1000  # NCNN calls itself once per layer
_MAX_CHANNELS, _MAX_KERNEL, _MAX_STRIDE, _MAX_PAD, _MAX_SCALE = 2**16, 16, 8, 15, 8
INPUT = "in0"  # name of the blob
_INTEGER = re.compile(r"-?[0-9]{1,9}")
# NCNN stores a number without a dot or an exponent as an integer, and may read its bits as a float.
_FLOAT = re.compile(r"(?=.*[.e])-?[0-9]{1,9}(\.[0-9]{1,9})?(e[+-]?[0-9]{1,2})?")
_EQUAL_PART = -233  # in the sizes of a Slice: divide the remaining channels equally
_RELU, _SIGMOID = 1, 4  # activations in a convolution


def check_network(path: Path, layers: Sequence[Layer], size: tuple[int, int]) -> dict[str, Shape]:
    """Check a network with its weights, and compute the shape of each blob.

    Args:
        path: the .param file, for messages.
        layers: from `utils.runtimes.ncnn_format.read_model`.
        size: (width, height) of the input.

    Returns:
        The shape of each blob that no layer reads.

    Raises:
        InputError: NCNN could not run the network; the message names the line and the layer.
    """
    width, height = size
    blobs: dict[str, Shape] = {}  # that are computed but not read yet
    produced, int8, total = set(), set(), 0
    if len(layers) > _MAX_LAYERS:
        raise InputError(f"{path}: expected at most {_MAX_LAYERS} layers, got {len(layers)}")
    for layer in layers:
        try:
            inputs = [blobs.pop(name) for name in layer.inputs]
            outputs = _output_shapes(layer, inputs or [(3, height, width)])
            if not produced.isdisjoint(layer.outputs) or len(set(layer.outputs)) < len(layer.outputs):
                raise ValueError(f"output names that are not in use, got {' '.join(layer.outputs)}")
            if _has_int8_output(layer, int8):
                int8.update(layer.outputs)
        except KeyError as error:
            unread = f"inputs that an earlier layer computes and no other layer reads, got {error}"
            raise _error(path, layer, unread) from None
        except ValueError as error:
            raise _error(path, layer, str(error)) from None
        produced.update(layer.outputs)
        blobs.update(zip(layer.outputs, outputs, strict=True))
        total += sum(4 * math.prod(shape) for shape in outputs)
        if total > MAX_BYTES:
            raise _error(path, layer, f"a network whose blobs have at most {MAX_BYTES:,} bytes")
    if not int8.isdisjoint(blobs):
        raise InputError(f"{path}: expected outputs in floating point, got int8")
    return blobs


def _has_int8_output(layer: Layer, int8: set[str]) -> bool:
    """Return whether the outputs of a layer are in int8; `int8` are the blobs that are."""
    if layer.weights is None:
        if int8.isdisjoint(layer.inputs):
            return False
        if layer.type == "Split":
            return True
    elif int8.isdisjoint(layer.inputs) or layer.weights.kernel.dtype == np.int8:
        return layer.weights.output_scale is not None
    raise ValueError("an input in floating point, got int8")


def _error(path: Path, layer: Layer, expected: str) -> InputError:
    return InputError(f"{path}:{layer.line}: {layer.type} {layer.name}: expected {expected}")


def _output_shapes(layer: Layer, inputs: list[Shape]) -> list[Shape]:
    """Return the shapes of the outputs of a layer; a ValueError says what was expected."""
    kind = KINDS.get(layer.type)
    if kind is None:
        raise ValueError(f"one of {', '.join(KINDS)}")
    for what, expected, names in (("inputs", kind.inputs, layer.inputs), ("outputs", kind.outputs, layer.outputs)):
        if len(names) != expected and not (expected is None and names):
            raise ValueError(f"{'1 or more' if expected is None else expected} {what}, got {len(names)}")
    params = _Params(layer.params)
    for key, value, default in kind.fixed:
        params.whole(key, value, value, default)
    shapes = kind.shapes(params, inputs, layer)
    if params.unread:
        raise ValueError(f"no parameter {min(params.unread)}")
    if not all(1 <= channels <= _MAX_CHANNELS and height >= 1 and width >= 1 for channels, height, width in shapes):
        raise ValueError(
            f"outputs of at least 1x1 with 1 to {_MAX_CHANNELS} channels, got (channels, height, width) {shapes}"
        )
    return shapes


class _Params:
    """The parameters of a layer. Each can be read once; `unread` has the others."""

    def __init__(self, values: dict[int, str]) -> None:
        self.unread = dict(values)

    def whole(self, key: int, lowest: int, highest: int, default: int | None = None) -> int:
        """Return a whole number in a range."""
        text = self._take(key, default)
        value = int(text) if _INTEGER.fullmatch(text) else None
        if value is None or not lowest <= value <= highest:
            raise ValueError(f"parameter {key} from {lowest} to {highest}, got {text[:20]!r}")
        return value

    def pair(self, keys: tuple[int, int], lowest: int, highest: int, default: int | None = None) -> tuple[int, int]:
        """Return (width, height), of which the second is the first one by default."""
        first = self.whole(keys[0], lowest, highest, default)
        return first, self.whole(keys[1], lowest, highest, first)

    def number(self, key: int, lowest: float, highest: float, default: float | None = None) -> float:
        """Return a number in a range, which is written with a decimal point or an exponent."""
        text = self._take(key, default)
        if not _FLOAT.fullmatch(text) or not lowest <= float(text) <= highest:
            raise ValueError(f"parameter {key} with a decimal point, from {lowest} to {highest}, got {text[:20]!r}")
        return float(text)

    def array(self, key: int) -> list[int]:
        """Return whole numbers, which are stored after their count."""
        words = self._take(key, None).split(",")
        if not all(map(_INTEGER.fullmatch, words)) or int(words[0]) != len(words) - 1:
            raise ValueError(f"parameter {key} with a count and then that many numbers, got {','.join(words)[:20]!r}")
        return list(map(int, words[1:]))

    def _take(self, key: int, default: float | None) -> str:
        if key not in self.unread and default is None:
            raise ValueError(f"a parameter {key}, got none")
        return self.unread.pop(key, str(default))


def _window(
    params: _Params, shape: Shape, strides: tuple[int, int], pads_before: tuple[int, int], pads_after: tuple[int, int]
) -> tuple[int, int, int]:
    """Return height and width of the output, and the area, of a window that moves over an input.

    The arguments are the keys of (horizontal, vertical) parameters; the pads after are those before by default.
    """
    kernel = params.pair((1, 11), 1, _MAX_KERNEL)
    stride = params.pair(strides, 1, _MAX_STRIDE, 1)
    before = params.pair(pads_before, 0, _MAX_PAD, 0)
    after = [params.whole(key, 0, _MAX_PAD, pad) for key, pad in zip(pads_after, before, strict=True)]
    width, height = (
        (side + first + last - span) // step + 1
        for side, first, last, span, step in zip(shape[:0:-1], before, after, kernel, stride, strict=True)
    )
    return height, width, kernel[0] * kernel[1]


def _convolution(params: _Params, inputs: list[Shape], layer: Layer) -> list[Shape]:
    channels = inputs[0][0]
    outputs = params.whole(OUTPUT_CHANNELS, 1, _MAX_CHANNELS)
    height, width, area = _window(params, inputs[0], (3, 13), (4, 14), (15, 16))
    groups = params.whole(GROUPS, channels, channels) if layer.type == "ConvolutionDepthWise" else 1
    if groups > 1 and outputs != channels:
        raise ValueError(f"as many outputs as inputs, {channels}, got {outputs}")
    size = outputs * (channels // groups) * area
    params.whole(WEIGHT_SIZE, size, size)
    params.whole(HAS_BIAS, 0, 1, 0)
    if params.whole(9, 0, _SIGMOID, 0) not in (0, _RELU, _SIGMOID):
        raise ValueError("no activation, ReLU or sigmoid")
    term = params.whole(INT8_SCALES, 0, 102, 0)
    base = 1 if layer.type == "ConvolutionDepthWise" else 2
    kernel = layer.weights.kernel
    if term not in (0, base, base + 100) or (term > 0) != (kernel.dtype == np.int8):
        raise ValueError(f"parameter {INT8_SCALES} for weights of type {kernel.dtype}, got {term}")
    if not all(np.isfinite(values).all() for values in (kernel, *layer.weights.floats())):
        raise ValueError("finite weights")
    return [(outputs, height, width)]


def _pooling(params: _Params, inputs: list[Shape], _: Layer) -> list[Shape]:
    params.whole(0, 0, 1)  # maximum or mean
    return [(inputs[0][0], *_window(params, inputs[0], (2, 12), (3, 13), (14, 15))[:2])]


def _padding(params: _Params, inputs: list[Shape], _: Layer) -> list[Shape]:
    top, bottom, left, right = (params.whole(key, 0, _MAX_PAD, 0) for key in range(4))
    params.number(5, -255, 255, 0.0)  # the constant
    channels, height, width = inputs[0]
    return [(channels, height + top + bottom, width + left + right)]


def _concat(params: _Params, inputs: list[Shape], _: Layer) -> list[Shape]:
    if len({shape[1:] for shape in inputs}) > 1:
        raise ValueError(f"inputs of the same height and width, got {inputs}")
    return [(sum(shape[0] for shape in inputs), *inputs[0][1:])]


def _slice(params: _Params, inputs: list[Shape], layer: Layer) -> list[Shape]:
    sizes, rest = params.array(-23300), inputs[0][0]
    if len(sizes) != len(layer.outputs):
        raise ValueError(f"{len(layer.outputs)} sizes, got {len(sizes)}")
    shapes = []
    for left, size in zip(range(len(sizes), 0, -1), sizes, strict=True):
        size = rest // left if size == _EQUAL_PART else size
        shapes.append((size, *inputs[0][1:]))
        rest -= size
    if rest or any(shape[0] < 1 for shape in shapes):
        raise ValueError(f"sizes that add up to {inputs[0][0]} channels, got {[shape[0] for shape in shapes]}")
    return shapes


def _shuffle(params: _Params, inputs: list[Shape], _: Layer) -> list[Shape]:
    groups = params.whole(0, 1, inputs[0][0])
    params.whole(1, 0, 1, 0)
    if inputs[0][0] % groups:
        raise ValueError(f"groups that divide {inputs[0][0]} channels, got {groups}")
    return inputs


def _interp(params: _Params, inputs: list[Shape], _: Layer) -> list[Shape]:
    params.whole(0, 1, 2)  # nearest or bilinear
    tall, wide = (params.number(key, 1, _MAX_SCALE) for key in (1, 2))
    channels, height, width = inputs[0]
    return [(channels, int(height * tall), int(width * wide))]


def _add(params: _Params, inputs: list[Shape], _: Layer) -> list[Shape]:
    if inputs[0] != inputs[1]:
        raise ValueError(f"inputs of the same shape, got {inputs}")
    return inputs[:1]


def _permute(params: _Params, inputs: list[Shape], _: Layer) -> list[Shape]:
    channels, height, width = inputs[0]
    return [(height, width, channels)]


def _input(params: _Params, inputs: list[Shape], layer: Layer) -> list[Shape]:
    if layer.outputs != (INPUT,):
        raise ValueError(f"the input {INPUT}, got {layer.outputs[0]}")
    return inputs


def _same(params: _Params, inputs: list[Shape], layer: Layer) -> list[Shape]:
    return inputs * len(layer.outputs)


@dataclass(frozen=True)
class _Kind:
    """A type of layers: how many inputs and outputs it has (None: one or more), and the shapes of its outputs."""

    inputs: int | None
    outputs: int | None
    shapes: Callable[[_Params, list[Shape], Layer], list[Shape]]
    # Parameters with only one allowed value: (key, value, default). Without default, the parameter is required.
    fixed: tuple[tuple[int, int, int | None], ...] = ()


# The layers that exported networks use. All others are slow, or stand for operations that NCNN does not have.
KINDS = {
    "Input": _Kind(0, 1, _input),
    "Padding": _Kind(1, 1, _padding, ((4, 0, 0), (6, 0, 0))),  # with the same constant in all channels
    **dict.fromkeys(WEIGHTED, _Kind(1, 1, _convolution, ((2, 1, 1), (12, 1, 1)))),  # dilation
    "Pooling": _Kind(1, 1, _pooling, ((5, 1, None),)),  # ignores an incomplete last window
    "Split": _Kind(1, None, _same),
    "Slice": _Kind(1, None, _slice, ((1, 0, 0),)),  # along the channels
    "Concat": _Kind(None, 1, _concat, ((0, 0, 0),)),  # along the channels
    "ShuffleChannel": _Kind(1, 1, _shuffle),
    "ReLU": _Kind(1, 1, _same),
    "Sigmoid": _Kind(1, 1, _same),
    "Softmax": _Kind(1, 1, _same, ((0, 0, None), (1, 1, None))),  # over the channels
    "Interp": _Kind(1, 1, _interp, ((6, 0, 0),)),  # corners not aligned
    "BinaryOp": _Kind(2, 1, _add, ((0, 0, None),)),  # addition
    "Permute": _Kind(1, 1, _permute, ((0, 3, None),)),  # to height, width, channels
}
