"""NCNN's model files, read into layers and written back: .param, a line a layer, and .bin, weight after weight.

The format is documented in NCNN's wiki ("param and model file structure"). Of the layers that have weights, those
that a convolutional detector is made of are known.
"""

import dataclasses
import struct
from dataclasses import dataclass

import numpy as np

from utils.errors import InputError
from utils.files import read_text

MAGIC = "7767517"
WEIGHTED = ("Convolution", "ConvolutionDepthWise")
# What stands before a weight says its type.
TAGS = {0x00000000: np.dtype("<f4"), 0x01306B47: np.dtype("<f2"), 0x000D4B38: np.dtype("i1")}
TAG_OF = {dtype: tag for tag, dtype in TAGS.items()}
# Parameters of a convolution, by their numbers in the .param file.
OUTPUTS, HAS_BIAS, WEIGHT_SIZE, GROUPS, INT8_SCALES = 0, 5, 6, 7, 8
# Values of INT8_SCALES: a scale a channel of the weights and one of the input; 100 more: one of the output as well.
INT8_CONVOLUTION, INT8_DEPTHWISE, INT8_OUTPUT = 2, 1, 100


@dataclass(frozen=True)
class Weights:
    """Weights of one convolution; a scale is what a float is multiplied by to become an int8."""

    kernel: np.ndarray  # [outputs, inputs of a group · kernel height · kernel width] float32, float16 or int8
    bias: np.ndarray | None  # [outputs] float32
    kernel_scales: np.ndarray | None = None  # [outputs] float32, of an int8 kernel
    input_scale: float | None = None
    output_scale: float | None = None


@dataclass(frozen=True)
class Layer:
    type: str
    name: str
    inputs: tuple[str, ...]  # names of blobs
    outputs: tuple[str, ...]
    params: dict[int, str]  # as written, by their numbers
    weights: Weights | None = None

    @property
    def is_depthwise(self):
        return self.type == "ConvolutionDepthWise"


def read_model(param_path, bin_path):
    """The layers of a model.

    Raises:
        InputError: the files are no model of NCNN's, or hold layers whose weights are not known here.
    """
    layers = read_param(param_path)
    content = bin_path.read_bytes()
    offset, filled = 0, []
    for layer in layers:
        if layer.type in WEIGHTED:
            try:
                weights, offset = _read_weights(layer, content, offset)
            except (ValueError, KeyError, struct.error) as error:
                raise InputError(f"{bin_path}: expected weights of {layer.name} at byte {offset}: {error}") from error
            layer = dataclasses.replace(layer, weights=weights)
        filled.append(layer)
    if offset != len(content):
        raise InputError(f"{bin_path}: expected {offset} bytes for the layers of {param_path}, got {len(content)}")
    return filled


def read_param(path):
    """The layers of a .param file, without their weights.

    Raises:
        InputError: naming the line.
    """
    lines = read_text(path).split("\n")
    if lines[0].strip() != MAGIC or len(lines) < 2:
        raise InputError(f"{path}:1: expected {MAGIC}, with which NCNN's .param files begin, got {lines[0][:20]!r}")
    layers = []
    for number, line in enumerate(lines[2:], 3):
        if line.strip():
            try:
                layers.append(_parse_layer(line.split()))
            except (ValueError, IndexError) as error:
                raise InputError(f"{path}:{number}: expected a layer, got {line!r}") from error
    count = lines[1].split()[0] if lines[1].split() else ""
    if count != str(len(layers)):
        raise InputError(f"{path}:2: expected the number of layers, {len(layers)}, got {count!r}")
    return layers


def write_param(path, layers):
    """Write the .param file of some layers."""
    blobs = {name for layer in layers for name in (*layer.inputs, *layer.outputs)}
    lines = [MAGIC, f"{len(layers)} {len(blobs)}"]
    for layer in layers:
        counts = f"{len(layer.inputs)} {len(layer.outputs)}"
        params = (f"{number}={value}" for number, value in layer.params.items())
        lines.append(" ".join((f"{layer.type:24} {layer.name:24} {counts}", *layer.inputs, *layer.outputs, *params)))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_bin(path, layers):
    """Write the .bin file of some layers, each kernel in the type it has."""
    path.write_bytes(b"".join(_weight_bytes(layer.weights) for layer in layers if layer.weights is not None))


def as_float16(layers):
    """The layers with float32 kernels stored in half precision."""
    return [
        dataclasses.replace(
            layer, weights=dataclasses.replace(layer.weights, kernel=layer.weights.kernel.astype("<f2"))
        )
        if layer.weights is not None and layer.weights.kernel.dtype == np.float32
        else layer
        for layer in layers
    ]


def _parse_layer(words):
    kind, name, inputs, outputs = words[0], words[1], int(words[2]), int(words[3])
    names, params = words[4 : 4 + inputs + outputs], words[4 + inputs + outputs :]
    if len(names) < inputs + outputs:
        raise ValueError("names of blobs are missing")
    pairs = (param.split("=", 1) for param in params)
    return Layer(
        kind, name, tuple(names[:inputs]), tuple(names[inputs:]), {int(number): value for number, value in pairs}
    )


def _read_weights(layer, content, offset):
    outputs, size = int(layer.params[OUTPUTS]), int(layer.params[WEIGHT_SIZE])
    (tag,) = struct.unpack_from("<I", content, offset)
    dtype = TAGS[tag]
    kernel = np.frombuffer(content, dtype, size, offset + 4).reshape(outputs, -1)
    offset += 4 + _aligned(size * dtype.itemsize)

    def floats(count):
        nonlocal offset
        values = np.frombuffer(content, "<f4", count, offset)
        offset += 4 * count
        return values

    bias = floats(outputs) if int(layer.params.get(HAS_BIAS, 0)) else None
    term = int(layer.params.get(INT8_SCALES, 0))
    if not term:
        return Weights(kernel, bias), offset
    kernel_scales, input_scale = floats(outputs), float(floats(1)[0])
    output_scale = float(floats(1)[0]) if term > INT8_OUTPUT else None
    return Weights(kernel, bias, kernel_scales, input_scale, output_scale), offset


def _weight_bytes(weights):
    kernel = weights.kernel.tobytes()
    parts = [struct.pack("<I", TAG_OF[weights.kernel.dtype]), kernel, bytes(_aligned(len(kernel)) - len(kernel))]
    parts += [
        np.asarray(values, "<f4").tobytes()
        for values in (weights.bias, weights.kernel_scales, weights.input_scale, weights.output_scale)
        if values is not None
    ]
    return b"".join(parts)


def _aligned(size):
    return -(-size // 4) * 4
