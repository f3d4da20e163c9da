"""Names of weights files that cannot be used."""

import pytest

from utils.errors import InputError
from utils.runtimes.loading import check_weights_path, load_runtime
from utils.weights.download import read_manifest


@pytest.fixture
def folder(tmp_path):
    for name in (
        "a.pth",
        "b.pt",
        "c.onnx",
        "d.ncnn.param",
        "d.ncnn.bin",
        "e.param",
        "e.bin",
        "f.tflite",
        "g.weights",
        "h.engine",
    ):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize("name", ["a.pth", "b.pt", "c.onnx", "d.ncnn.param", "f.tflite", "g.weights", *read_manifest()])
def test_names_that_can_be_used(folder, name):
    check_weights_path(folder / name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("d.param", r"d\.param: expected .*d\.ncnn\.param.* exists"),
        ("d.bin", r"d\.bin: expected .*d\.ncnn\.param.* exists"),
        ("d.ncnn.bin", r"d\.ncnn\.bin: expected .*d\.ncnn\.param.* exists"),
        ("e.param", r"e\.param: expected .*e\.ncnn\.param.*writes$"),
        ("e.bin", r"e\.bin: expected .*e\.ncnn\.param.*writes$"),
        ("h.engine", r"h\.engine: expected .*\.pth, \.onnx, \.ncnn\.param or \.tflite.*\.engine"),
        ("gone.tflite", r"gone\.tflite: expected .*not exist"),
        ("d.ncnn.json", r"d\.ncnn\.json: expected .*\.json"),
        ("gone.pth", r"gone\.pth: expected .*not exist.* a\.pth, b\.pt, c\.onnx and 2 more"),
        ("gone.onnx", r"gone\.onnx: expected .*not exist"),
        ("gone.ncnn.param", r"gone\.ncnn\.param: expected .*not exist"),
        ("gone/gone.pth", r"gone\.pth: expected .*not exist$"),
        ("", r"expected .*folder.* a\.pth"),
    ],
)
def test_names_that_cannot_be_used(folder, name, message):
    with pytest.raises(InputError, match=message):
        check_weights_path(folder / name)
    with pytest.raises(InputError, match=message):
        load_runtime(folder / name)


@pytest.mark.parametrize(
    ("name", "package", "expected"),
    [("c.ONNX", "onnxruntime", "an ONNX model"), ("f.TFLITE", "ai_edge_litert", "the description")],
)
def test_a_suffix_in_upper_case(folder, name, package, expected):
    pytest.importorskip(package)
    (folder / name).touch()
    with pytest.raises(InputError, match=f"{name}: expected {expected}"):
        load_runtime(folder / name)
