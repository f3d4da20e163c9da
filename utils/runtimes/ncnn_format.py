"""Read and write NCNN models: NAME.param holds one line per layer, NAME.bin the weights one after another.

NCNN's wiki documents the format ("param and model file structure"). Weights are only supported for the layers in
`WEIGHTED`, which are enough for a convolutional detector.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from utils.errors import InputError
from utils.files import read_bytes, read_text

PARAM_SUFFIX = ".ncnn.param"  # of exported models
MAGIC = "7767517"
_MAX_WORD = 255  # characters; NCNN reads no more
WEIGHTED = ("Convolution", "ConvolutionDepthWise")
# The tag before each kernel gives its type.
TAGS = {0x00000000: np.dtype("<f4"), 0x01306B47: np.dtype("<f2"), 0x000D4B38: np.dtype("i1")}
TAG_OF = {dtype: tag for tag, dtype in TAGS.items()}
# Keys of a convolution's parameters in the .param file.
OUTPUT_CHANNELS, HAS_BIAS, WEIGHT_SIZE, GROUPS, INT8_SCALES = 0, 5, 6, 7, 8
# Values of INT8_SCALES: one scale per channel of the kernel and one of the input; +100: also one of the output.
INT8_CONVOLUTION, INT8_OUTPUT = 2, 100


@dataclass(frozen=True)
class Weights:
    """Weights of a convolution. int8 value = float value · scale."""

    kernel: np.ndarray  # [outputs, inputs of a group · kernel height · kernel width] float32, float16 or int8
    bias: np.ndarray | None  # [outputs] float32
    kernel_scales: np.ndarray | None = None  # [outputs] float32, of an int8 kernel
    input_scale: float | None = None
    output_scale: float | None = None

    def floats(self) -> list[np.ndarray | float]:
        """Return everything except the kernel, in the order of the .bin file."""
        values = (self.bias, self.kernel_scales, self.input_scale, self.output_scale)
        return [value for value in values if value is not None]


@dataclass(frozen=True)
class Layer:
    """One line of a .param file and the weights that belong to it."""

    type: str
    name: str
    inputs: tuple[str, ...]  # names of blobs
    outputs: tuple[str, ...]
    params: dict[int, str]  # values as written in the file
    weights: Weights | None = None
    line: int = field(default=0, compare=False)  # in the .param file it was read from


def bin_path(param: str | Path) -> Path:
    """Return the path of the weights of a .param file."""
    return Path(param).with_suffix(".bin")


def read_model(param: Path) -> list[Layer]:
    """Read the layers of a model with their weights.

    Raises:
        InputError: the files are not an NCNN model, or contain unsupported layers.
    """
    layers, weights_path = read_param(param), bin_path(param)
    content = read_bytes(weights_path)
    offset = 0
    for index, layer in enumerate(layers):
        if layer.type in WEIGHTED:
            try:
                weights, end = _parse_weights(layer, content, offset)
            except (ValueError, KeyError, struct.error) as error:
                raise InputError(
                    f"{weights_path}: expected weights of {layer.name} at byte {offset}: {error}"
                ) from error
            layers[index], offset = replace(layer, weights=weights), end
    if offset != len(content):
        raise InputError(f"{weights_path}: expected {offset} bytes for the layers of {param}, got {len(content)}")
    return layers


def read_param(path: Path) -> list[Layer]:
    """Read the layers of a .param file, without weights.

    Raises:
        InputError: a line is invalid; the message has its line number.
    """
    lines = read_text(path).split("\n")
    # NCNN and Python disagree on what separates words.
    for line_number, line in enumerate(lines, 1):
        if not (line.isascii() and line.isprintable()):
            raise InputError(f"{path}:{line_number}: expected printable ASCII characters, got {line[:80]!r}")
    if lines[0].strip() != MAGIC or len(lines) < 2:
        raise InputError(f"{path}:1: expected {MAGIC}, the first line of NCNN's .param files, got {lines[0][:20]!r}")
    layers = []
    for line_number, line in enumerate(lines[2:], 3):
        if line.strip():
            try:
                layers.append(_parse_layer(line.split(), line_number))
            except (ValueError, IndexError) as error:
                raise InputError(f"{path}:{line_number}: expected a layer, got {line[:80]!r}") from error
    counts = f"{len(layers)} {len(_blobs(layers))}"
    if lines[1].split() != counts.split():
        raise InputError(f"{path}:2: expected the counts of layers and blobs, {counts}, got {lines[1][:80]!r}")
    return layers


def _blobs(layers: Sequence[Layer]) -> set[str]:
    return {name for layer in layers for name in (*layer.inputs, *layer.outputs)}


def write_model(param: Path, layers: Sequence[Layer]) -> None:
    """Write a .param file, and the weights to the .bin file next to it. Each kernel keeps its type."""
    lines = [MAGIC, f"{len(layers)} {len(_blobs(layers))}"]
    for layer in layers:
        counts = f"{len(layer.inputs)} {len(layer.outputs)}"
        params = (f"{key}={value}" for key, value in layer.params.items())
        lines.append(" ".join((f"{layer.type:24} {layer.name:24} {counts}", *layer.inputs, *layer.outputs, *params)))
    param.write_text("\n".join(lines) + "\n", encoding="utf-8")
    weights = (_weight_bytes(layer.weights) for layer in layers if layer.weights is not None)
    bin_path(param).write_bytes(b"".join(weights))


def as_float16(layers: Iterable[Layer]) -> list[Layer]:
    """Convert float32 kernels to float16; other layers stay unchanged."""
    return [
        replace(layer, weights=replace(layer.weights, kernel=layer.weights.kernel.astype("<f2")))
        if layer.weights is not None and layer.weights.kernel.dtype == np.float32
        else layer
        for layer in layers
    ]


def _parse_layer(words: list[str], line_number: int) -> Layer:
    inputs, outputs = int(words[2]), int(words[3])
    blobs, params = words[4 : 4 + inputs + outputs], words[4 + inputs + outputs :]
    if inputs < 0 or outputs < 0 or len(blobs) < inputs + outputs:
        raise ValueError("names of blobs are missing")
    if max(map(len, words)) > _MAX_WORD:
        raise ValueError("a word is too long")
    pairs = [param.split("=", 1) for param in params]
    values = {int(key): value for key, value in pairs}
    if len(values) < len(pairs):
        raise ValueError("a parameter occurs twice")
    return Layer(words[0], words[1], tuple(blobs[:inputs]), tuple(blobs[inputs:]), values, line=line_number)


def _parse_weights(layer: Layer, content: bytes, offset: int) -> tuple[Weights, int]:
    """Parse the weights of a layer at `offset`; return them and the offset after them."""
    outputs, size = int(layer.params[OUTPUT_CHANNELS]), int(layer.params[WEIGHT_SIZE])
    if not 0 < outputs <= size <= len(content):
        raise ValueError(f"{outputs} outputs with {size} weights")
    (tag,) = struct.unpack_from("<I", content, offset)
    dtype = TAGS[tag]
    kernel = np.frombuffer(content, dtype, size, offset + 4).reshape(outputs, -1)
    offset += 4 + _aligned(size * dtype.itemsize)

    def floats(count: int) -> np.ndarray:
        nonlocal offset
        values = np.frombuffer(content, "<f4", count, offset)
        offset += 4 * count
        return values

    bias = floats(outputs) if int(layer.params.get(HAS_BIAS, 0)) else None
    scales = int(layer.params.get(INT8_SCALES, 0))
    if not scales:
        return Weights(kernel, bias), offset
    kernel_scales, input_scale = floats(outputs), float(floats(1)[0])
    output_scale = float(floats(1)[0]) if scales > INT8_OUTPUT else None
    return Weights(kernel, bias, kernel_scales, input_scale, output_scale), offset


def _weight_bytes(weights: Weights) -> bytes:
    kernel = weights.kernel.tobytes()
    padding = bytes(_aligned(len(kernel)) - len(kernel))
    floats = (np.asarray(values, "<f4").tobytes() for values in weights.floats())
    return b"".join((struct.pack("<I", TAG_OF[weights.kernel.dtype]), kernel, padding, *floats))


def _aligned(size: int) -> int:
    """Round up to a multiple of 4 bytes."""
    return -(-size // 4) * 4
