"""int8 for NCNN: rounding and scales of the weights, and which outputs are int8."""

import dataclasses

import numpy as np
import pytest

from utils.export.int8_ncnn import first_convolutions, to_int8
from utils.runtimes.ncnn_format import Layer, Weights, write_model
from utils.runtimes.ncnn_runtime import extract, open_net

SIDE = 8


def convolution(name, reads, writes, kernel):
    """A layer of 1×1 convolutions with ReLU and zero bias."""
    outputs = len(kernel)
    params = {0: str(outputs), 1: "1", 4: "0", 5: "1", 6: str(kernel.size), 9: "1"}
    weights = Weights(kernel.astype(np.float32), np.zeros(outputs, np.float32))
    return Layer("Convolution", name, (reads,), (writes,), params, weights)


@pytest.fixture
def layers():
    rng = np.random.default_rng(0)
    return [
        Layer("Input", "in0", (), ("in0",), {}),
        convolution("first", "in0", "a", rng.normal(size=(16, 3))),
        convolution("second", "a", "b", rng.normal(size=(16, 16))),
        convolution("third", "b", "out0", rng.normal(size=(8, 16))),
    ]


LIMITS = {"in0": 1.0, "a": 4.0, "b": 24.0}


def run(folder, layers, image):
    write_model(folder / "m.param", layers)
    pytest.importorskip("ncnn")
    (output,) = extract(open_net(folder / "m.param"), image, ["out0"])
    return output


def test_weights_have_one_scale_per_channel(layers):
    quantized = to_int8(layers, LIMITS, {"first", "second", "third"})
    for before, after in zip(layers[1:], quantized[1:], strict=True):
        assert after.weights.kernel.dtype == np.int8
        assert np.abs(after.weights.kernel).max(1).tolist() == [127] * len(after.weights.kernel)
        restored = after.weights.kernel / after.weights.kernel_scales[:, None]
        half_step = 0.5 / after.weights.kernel_scales[:, None]
        assert (np.abs(restored - before.weights.kernel) <= half_step * 1.001).all()
    assert [layer.weights.input_scale for layer in quantized[1:]] == [127, 127 / 4, 127 / 24]


def test_outputs_are_int8_if_all_readers_are_int8(layers):
    def terms(names):
        return [layer.params.get(8) for layer in to_int8(layers, LIMITS, names)[1:]]

    assert terms({"first", "second", "third"}) == ["102", "102", "2"]
    assert terms({"first", "third"}) == ["2", None, "2"]
    assert terms({"second"}) == [None, "2", None]
    others = [*layers, Layer("ReLU", "also", ("a",), ("c",), {})]
    assert to_int8(others, LIMITS, {"first", "second"})[1].params[8] == "2"


def test_a_split_copies_int8_if_all_its_readers_are_int8(layers, tmp_path):
    rng = np.random.default_rng(2)
    split = Layer("Split", "split", ("a",), ("a1", "a2"), {})
    second = dataclasses.replace(layers[2], inputs=("a1",))
    other = convolution("other", "a2", "out1", rng.normal(size=(4, 16)))
    forked = [*layers[:2], split, second, layers[3], other]
    limits = {**LIMITS, "a1": 4.0, "a2": 4.0}
    names = {"first", "second", "third", "other"}
    quantized = to_int8(forked, limits, names)
    assert quantized[1].params[8] == "102"
    assert quantized[1].weights.output_scale == quantized[3].weights.input_scale == 127 / 4
    assert to_int8(forked, limits, names - {"other"})[1].params[8] == "2"
    image = rng.random((3, SIDE, SIDE), np.float32)
    exact, rounded = run(tmp_path, forked, image), run(tmp_path, quantized, image)
    assert np.abs(exact - rounded).max() < np.abs(exact).max() * 0.05


def test_first_convolutions_are_recognized_after_padding(layers):
    assert first_convolutions(layers) == {"first"}
    border = Layer("Padding", "pad", ("in0",), ("p",), {})
    split = Layer("Split", "split", ("p",), ("p1", "p2"), {})
    parts = [convolution(name, f"p{name}", f"a{name}", np.ones((8, 3))) for name in "12"]
    joined = Layer("Concat", "cat", ("a1", "a2"), ("a",), {})
    assert first_convolutions([layers[0], border, split, *parts, joined, *layers[2:]]) == {"1", "2"}


def test_halves_are_rounded_away_from_zero(layers):
    kernel = np.array([[127, 0.5, -0.5], [127, 1.49, -2.5]])
    layers = [layers[0], convolution("first", "in0", "out0", kernel)]
    (_, layer) = to_int8(layers, LIMITS, {"first"})
    assert layer.weights.kernel.tolist() == [[127, 1, -1], [127, 1, -3]]


def test_a_channel_of_zeros(layers):
    layers = [layers[0], convolution("first", "in0", "out0", np.zeros((4, 3)))]
    (_, layer) = to_int8(layers, LIMITS, {"first"})
    assert not layer.weights.kernel.any()
    assert np.isfinite(layer.weights.kernel_scales).all()


@pytest.mark.parametrize("names", [{"first"}, {"second"}, {"third"}, {"first", "second"}, {"first", "second", "third"}])
def test_ncnn_gives_nearly_the_same_result(layers, tmp_path, names):
    image = np.random.default_rng(1).random((3, SIDE, SIDE), np.float32)
    exact = run(tmp_path, layers, image)
    rounded = run(tmp_path, to_int8(layers, LIMITS, names), image)
    assert not np.array_equal(exact, rounded)
    assert np.abs(exact - rounded).max() < np.abs(exact).max() * 0.05
