"""NCNN's files: written, read back, and rejected if they are damaged."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.errors import InputError
from utils.runtimes.ncnn_format import (
    GROUPS,
    HAS_BIAS,
    INT8_SCALES,
    OUTPUT_CHANNELS,
    WEIGHT_SIZE,
    Layer,
    Weights,
    as_float16,
    read_model,
    read_param,
    write_model,
)


@st.composite
def convolutions(draw, index=0):
    """A layer with weights of any type, from blob `index` to the next one."""
    outputs, size = draw(st.integers(1, 5)), draw(st.integers(1, 7))
    dtype = draw(st.sampled_from((np.float32, np.float16, np.int8)))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    kernel = (rng.normal(size=(outputs, size)) * 50).astype(dtype)
    bias = rng.normal(size=outputs).astype(np.float32) if draw(st.booleans()) else None
    depthwise, int8_output = draw(st.booleans()), draw(st.booleans())
    params = {OUTPUT_CHANNELS: str(outputs), WEIGHT_SIZE: str(outputs * size), HAS_BIAS: str(int(bias is not None))}
    if depthwise:
        params[GROUPS] = str(outputs)
    weights = Weights(kernel, bias)
    if dtype is np.int8:
        params[INT8_SCALES] = str((1 if depthwise else 2) + 100 * int8_output)
        weights = Weights(kernel, bias, rng.random(outputs).astype(np.float32), 0.5, 2.0 if int8_output else None)
    kind = "ConvolutionDepthWise" if depthwise else "Convolution"
    return Layer(kind, f"conv_{index}", (f"b{index}",), (f"b{index + 1}",), params, weights)


@st.composite
def networks(draw):
    first = Layer("Input", "in0", (), ("b0",), {})
    last = draw(st.integers(0, 4))
    layers = [draw(convolutions(index)) for index in range(last)]
    return [first, *layers, Layer("Slice", "cut", (f"b{last}",), ("x", "y"), {-23300: "2,-233,-233", 1: "0"})]


def write(folder, layers):
    write_model(folder / "m.param", layers)
    return folder / "m.param"


def assert_equal(first, second):
    assert [dataclasses.replace(layer, weights=None) for layer in first] == [
        dataclasses.replace(layer, weights=None) for layer in second
    ]
    for one, other in zip(first, second, strict=True):
        if one.weights is None:
            assert other.weights is None
            continue
        assert one.weights.kernel.dtype == other.weights.kernel.dtype
        for field in dataclasses.fields(Weights):
            ours, theirs = getattr(one.weights, field.name), getattr(other.weights, field.name)
            assert (ours is None) == (theirs is None), field.name
            if ours is not None:
                np.testing.assert_array_equal(ours, theirs)


@given(layers=networks())
def test_layers_are_read_back(tmp_path_factory, layers):
    assert_equal(layers, read_model(write(tmp_path_factory.mktemp("ncnn"), layers)))


@given(layers=networks())
def test_as_float16_only_changes_float32(layers):
    for before, after in zip(layers, as_float16(layers), strict=True):
        if before.weights is None or before.weights.kernel.dtype != np.float32:
            assert after is before
        else:
            assert after.weights.kernel.dtype == np.float16
            np.testing.assert_allclose(after.weights.kernel, before.weights.kernel, rtol=1e-3, atol=1e-4)


def test_blobs_and_layers_are_counted(tmp_path):
    layers = [Layer("Input", "in0", (), ("a",), {}), Layer("Split", "s", ("a",), ("b", "c"), {})]
    write(tmp_path, layers)
    assert (tmp_path / "m.param").read_text().splitlines()[:2] == ["7767517", "2 3"]
    assert read_param(tmp_path / "m.param") == layers


CONVOLUTION = "7767517\n2 2\nInput in0 0 1 a\nConvolution c 1 1 a b 0=2 5=1 6=4\n"
FLOAT_WEIGHTS = bytes(4) + bytes(4 * 4) + bytes(2 * 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"m.param:1: expected 7767517, .* got ''"),
        ("hello\n1 1\n", r"m.param:1: expected 7767517, .* got 'hello'"),
        ("7767517", r"m.param:1: expected 7767517"),
        ("7767517\n\n", r"m.param:2: expected .* 0 0, got ''"),
        ("7767517\n3 1\nInput in0 0 1 a\n", r"m.param:2: expected .* 1 1, got '3 1'"),
        ("7767517\n1 2\nInput in0 0 1 a\n", r"m.param:2: expected .* 1 1, got '1 2'"),
        ("7767517\n1 1\nInput in0 0 1 \u00e4\n", r"m.param:3: expected printable ASCII"),
        ("7767517\n1 1\nInput in0 0 1 a\0\n", r"m.param:3: expected printable ASCII"),
        ("7767517\n1 1\nInput in0 -1 2 a\n", r"m.param:3: expected a layer"),
        ("7767517\n1 1\nInput in0 0 1 a 0=1 0=2\n", r"m.param:3: expected a layer"),
        (f"7767517\n1 1\nInput {'x' * 256} 0 1 a\n", r"m.param:3: expected a layer"),
        ("7767517\n1 1\nInput in0\n", r"m.param:3: expected a layer, got 'Input in0'"),
        ("7767517\n1 1\nInput in0 0 2 a\n", r"m.param:3: expected a layer"),
        ("7767517\n1 1\nInput in0 zero 1 a\n", r"m.param:3: expected a layer"),
        ("7767517\n1 1\nInput in0 0 1 a w=3\n", r"m.param:3: expected a layer"),
        ("7767517\n1 1\nInput in0 0 1 a 3\n", r"m.param:3: expected a layer"),
    ],
)
def test_a_damaged_param_file(tmp_path, text, message):
    (tmp_path / "m.param").write_text(text)
    with pytest.raises(InputError, match=message):
        read_param(tmp_path / "m.param")


@pytest.mark.parametrize("length", [0, 3, 4, 10, 20, len(FLOAT_WEIGHTS) - 1])
def test_a_truncated_bin_file(tmp_path, length):
    (tmp_path / "m.param").write_text(CONVOLUTION)
    (tmp_path / "m.bin").write_bytes(FLOAT_WEIGHTS[:length])
    with pytest.raises(InputError, match=r"m.bin: expected weights of c at byte \d+"):
        read_model(tmp_path / "m.param")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (FLOAT_WEIGHTS + b"more", r"m.bin: expected 28 bytes for the layers of .*m.param, got 32"),
        (b"\x01\x02\x03\x04" + FLOAT_WEIGHTS[4:], r"m.bin: expected weights of c at byte 0"),
    ],
)
def test_a_different_bin_file(tmp_path, content, message):
    (tmp_path / "m.param").write_text(CONVOLUTION)
    (tmp_path / "m.bin").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_model(tmp_path / "m.param")


def test_a_complete_bin_file(tmp_path):
    (tmp_path / "m.param").write_text(CONVOLUTION)
    (tmp_path / "m.bin").write_bytes(FLOAT_WEIGHTS)
    (_, layer) = read_model(tmp_path / "m.param")
    assert layer.weights.kernel.shape == (2, 2)


def test_a_released_model_is_written_byte_for_byte(shared, tmp_path):
    reference = shared / "reference"
    layers = read_model(reference / "yolo-fastestv2-opt.param")
    assert len(layers) == 143
    write(tmp_path, layers)
    assert (tmp_path / "m.bin").read_bytes() == (reference / "yolo-fastestv2-opt.bin").read_bytes()
    assert read_param(tmp_path / "m.param") == read_param(reference / "yolo-fastestv2-opt.param")
