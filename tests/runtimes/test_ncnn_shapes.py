"""Networks that NCNN would crash on are refused before it reads them."""

import re
import subprocess
import sys

import numpy as np
import pytest

from utils.errors import InputError
from utils.runtimes.ncnn_format import Layer, Weights
from utils.runtimes.ncnn_shapes import check_network

SIZE = (64, 32)  # width, height


def convolution(channels, outputs, kernel=1, **changes):
    size = outputs * channels * kernel**2
    params = {0: str(outputs), 1: str(kernel), 3: "1", 4: str(kernel // 2), 5: "1", 6: str(size)}
    weights = Weights(np.ones((outputs, size // outputs), np.float32), np.zeros(outputs, np.float32))
    params |= {int(key[1:]): value for key, value in changes.items()}
    return Layer("Convolution", "conv", ("in0",), ("a",), params, weights)


def network(*layers):
    return [Layer("Input", "in0", (), ("in0",), {}), *layers]


def layer(kind, inputs, outputs, **params):
    values = {(-23300 if key == "array" else int(key[1:])): value for key, value in params.items()}
    return Layer(kind, kind.lower(), tuple(inputs.split()), tuple(outputs.split()), values)


def shapes(*layers):
    return check_network("m.param", network(*layers), SIZE)


def test_shapes():
    assert shapes() == {"in0": (3, 32, 64)}
    assert shapes(convolution(3, 8, 3)) == {"a": (8, 32, 64)}
    assert shapes(convolution(3, 8, 3, _3="2")) == {"a": (8, 16, 32)}
    assert shapes(convolution(3, 8, 3, _4="0")) == {"a": (8, 30, 62)}
    assert shapes(layer("Padding", "in0", "a", _0="1", _1="2", _2="3", _3="4")) == {"a": (3, 35, 71)}
    assert shapes(layer("Pooling", "in0", "a", _0="0", _1="3", _2="2", _3="1", _5="1")) == {"a": (3, 16, 32)}
    assert shapes(layer("Split", "in0", "a b"), layer("Concat", "a b", "c")) == {"c": (6, 32, 64)}
    assert shapes(layer("Slice", "in0", "a b", array="2,1,-233")) == {"a": (1, 32, 64), "b": (2, 32, 64)}
    assert shapes(layer("Interp", "in0", "a", _0="1", _1="2.0", _2="2.0")) == {"a": (3, 64, 128)}
    assert shapes(layer("Permute", "in0", "a", _0="3")) == {"a": (32, 64, 3)}
    assert shapes(layer("ShuffleChannel", "in0", "a", _0="3")) == {"a": (3, 32, 64)}


BAD = [
    *(convolution(3, 8, 3, **{f"_{key}": value}) for key in (0, 1, 3, 4, 6) for value in ("-1", "999999999", "x", "")),
    *(convolution(3, 8, 3, _4=value) for value in ("1e1", "1_0", " 1", "٣", "0.5", "16", "9" * 30)),
    convolution(3, 8, 3, _2="2"),
    convolution(3, 8, 3, _5="2"),
    convolution(3, 8, 3, _7="3"),
    convolution(3, 8, 3, _8="2"),
    convolution(3, 8, 3, _9="2"),
    convolution(3, 8, 3, _19="1"),
    convolution(4, 8, 3),
    convolution(3, 8, 16, _4="0", _1="99"),
    layer("Pooling", "in0", "a", _0="0", _1="3", _2="0", _3="1", _5="1"),
    layer("Pooling", "in0", "a", _0="0", _1="3", _2="2", _3="1", _5="1", _4="1"),
    layer("Padding", "in0", "a", _0="-3"),
    layer("Padding", "in0", "a", _5="nan"),
    layer("Slice", "in0", "a b", array="2,-1,4"),
    layer("Slice", "in0", "a b", array="2,2,2"),
    layer("Slice", "in0", "a b", array="3,1,1,1"),
    layer("Slice", "in0", "a b", array="9,1,2"),
    layer("Slice", "in0", "a b"),
    layer("ShuffleChannel", "in0", "a", _0="2"),
    layer("ShuffleChannel", "in0", "a", _0="0"),
    layer("Interp", "in0", "a", _0="1", _1="1e9", _2="2.0"),
    layer("Interp", "in0", "a", _0="1", _1="inf", _2="2.0"),
    layer("Interp", "in0", "a", _0="1", _1="2", _2="2.0"),  # NCNN may read the bits of an integer as a float
    layer("Permute", "in0", "a", _0="1"),
    layer("Softmax", "in0", "a", _0="3", _1="1"),
    layer("BinaryOp", "in0 in0", "a", _0="0"),
    layer("BinaryOp", "in0", "a", _0="0"),
    layer("Concat", "in0 nothing", "a"),
    layer("Split", "in0", "a a"),
    layer("Split", "in0", "in0"),
    layer("Split", "in0", ""),
    layer("Concat", "", "a"),
    layer("Input", "", "other"),
    layer("InnerProduct", "in0", "a", _0="4"),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: f"{bad.type} {bad.params}")
def test_a_bad_layer_is_named(bad):
    with pytest.raises(InputError, match=rf"^m\.param:0: {re.escape(f'{bad.type} {bad.name}')}: expected "):
        shapes(bad)


def int8_convolution(inputs, outputs, output_scale):
    weights = Weights(np.ones((3, 3), np.int8), np.zeros(3, np.float32), np.ones(3, np.float32), 1.0, output_scale)
    params = {0: "3", 1: "1", 5: "1", 6: "9", 8: "2" if output_scale is None else "102"}
    return Layer("Convolution", "int8", (inputs,), (outputs,), params, weights)


def test_blobs_in_int8_are_only_read_by_layers_in_int8():
    first, last = int8_convolution("in0", "a", 2.0), int8_convolution("a", "b", None)
    assert shapes(first, last) == {"b": (3, 32, 64)}
    assert (
        len(
            shapes(first, layer("Split", "a", "c d"), *(int8_convolution(name, f"{name}{name}", None) for name in "cd"))
        )
        == 2
    )
    with pytest.raises(InputError, match="floating point"):
        shapes(first)
    with pytest.raises(InputError, match="ReLU relu: expected an input in floating point"):
        shapes(first, layer("ReLU", "a", "b"))
    with pytest.raises(InputError, match="floating point"):
        shapes(first, layer("Split", "a", "c d"), int8_convolution("c", "e", None), layer("ReLU", "d", "f"))


def test_a_network_with_too_many_layers():
    chain = [layer("ReLU", f"b{number}", f"b{number + 1}") for number in range(1000)]
    with pytest.raises(InputError, match="1000 layers"):
        shapes(layer("ReLU", "in0", "b0"), *chain)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(value):
    layer = convolution(3, 8, 3)
    layer.weights.bias[2] = value
    with pytest.raises(InputError, match="finite"):
        shapes(layer)


def test_all_blobs_together_have_a_limit():
    with pytest.raises(InputError, match="bytes"):
        check_network("m.param", network(convolution(3, 64)), (8192, 8192))


CHANGE = """
import random, re, shutil, sys
from pathlib import Path
import numpy as np
from utils.errors import InputError
from utils.postprocess import Thresholds
from utils.runtimes.loading import load_runtime

source, folder = Path(sys.argv[1]), Path(sys.argv[2])
for suffix in (".ncnn.bin", ".json"):
    shutil.copy(source.with_name("model" + suffix), folder / ("m" + suffix))
text = source.read_text()
numbers = [match.span() for match in re.finditer(r"[0-9]+(\\.[0-9]+)?", text)]
generator = random.Random(0)
path = folder / "m.ncnn.param"
for number in range(250):
    start, end = generator.choice(numbers)
    value = generator.choice(["-1", "0", "2", "7", "1000000000", "2147483648", "1" + "0" * 30, "0.5", "x", ""])
    path.write_text(text[:start] + value + text[end:])
    print(number, repr(text[start - 30:start]), value, flush=True)
    try:
        runtime = load_runtime(path)
        runtime.predict(np.zeros((1, runtime.info.height, runtime.info.width, 3), np.uint8), Thresholds())
    except InputError as error:
        assert str(error).startswith(str(folder)), error
print("all")
"""


@pytest.mark.slow
def test_no_changed_number_crashes_ncnn(ncnn_model, tmp_path, repo):
    """In another process, whose last line tells which change crashed it."""
    command = [sys.executable, "-c", CHANGE, str(ncnn_model), str(tmp_path)]
    result = subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, (result.stdout.splitlines()[-1:], result.stderr[-2000:])
    assert result.stdout.endswith("all\n")


@pytest.fixture(scope="module")
def ncnn_model(tmp_path_factory, repo):
    pytest.importorskip("ncnn")
    pytest.importorskip("pnnx")
    from utils.export.exporter import ExportOptions, export

    path = tmp_path_factory.mktemp("export") / "model.onnx"
    weights = str(repo / "modelzoo/shapes-352.pth")
    list(export(None, ExportOptions(weights=weights, output=str(path), ncnn="fp16")))
    return path.with_suffix(".ncnn.param")
