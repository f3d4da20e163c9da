"""pytorch2onnx.py as a user runs it: all files agree with PyTorch and describe themselves; bad input is reported."""

import contextlib
import functools
import io
import json
import os
import re
import shutil
import sys
import tempfile
from types import SimpleNamespace
from unittest import mock

import cv2
import numpy as np
import pytest
import torch

import pytorch2onnx
from tests.helpers.dataset_files import write_data, write_image
from tests.helpers.random_detector import add_description, save_random_weights
from utils import cli
from utils.config import read_config
from utils.errors import InputError
from utils.postprocess import Thresholds
from utils.runtimes.loading import load_runtime
from utils.runtimes.model_info import ModelInfo
from utils.runtimes.ncnn_format import INT8_SCALES, read_param

pytestmark = pytest.mark.slow

OUTPUTS = ["stride16", "stride32"]
CASES = [((96, 64), ("cat",)), ((96, 64), ("猫", "dog", "cow")), ((128, 160), ("cat",)), ((128, 160), ("a", "b", "c"))]


def export(*arguments):
    """Run pytorch2onnx.py in this process: exit status, stdout, stderr."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    with (
        mock.patch.object(sys, "argv", ["pytorch2onnx.py", *map(str, arguments)]),
        contextlib.redirect_stdout(streams[0]),
        contextlib.redirect_stderr(streams[1]),
        pytest.raises(SystemExit) as stop,
    ):
        cli.run(pytorch2onnx.build_parser(), pytorch2onnx.main)
    for stream in streams:
        stream.seek(0)
    return SimpleNamespace(returncode=stop.value.code, stdout=streams[0].read(), stderr=streams[1].read())


class Exported:
    """A random network exported to ONNX and NCNN, and its detections in PyTorch in some images."""

    def __init__(self, folder, size, names):
        self.folder = folder
        self.data = write_data(folder, names)
        text = self.data.read_text(encoding="utf-8")
        self.data.write_text(text.replace("width=96", f"width={size[0]}").replace("height=64", f"height={size[1]}"))
        self.config = read_config(self.data)
        self.weights = save_random_weights(folder / "w.pth", len(names))
        self.output = folder / "out" / "model.onnx"
        self.result = self.run("--ncnn", "fp32", "--conf", 0.25, "--iou", 0.5)
        assert (self.result.returncode, self.result.stderr) == (0, "")
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 256, (4, 6, 8, 3), np.uint8)
        repeat = (1, -(-size[1] // 6), -(-size[0] // 8), 1)
        self.images = np.kron(coarse, np.ones(repeat, np.uint8))[:, : size[1], : size[0]]
        self.expected = load_runtime(self.weights, self.config, "cpu").predict(self.images, Thresholds(0.1))

    def run(self, *arguments):
        defaults = ("--data", self.data, "--weights", self.weights, "--output", self.output)
        return export(*defaults, *arguments)


@pytest.fixture(scope="module")
def export_case(tmp_path_factory):
    """Export one of CASES, each only once."""
    return functools.cache(lambda case: Exported(tmp_path_factory.mktemp("export"), *case))


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0][0]}x{case[0][1]}-{len(case[1])}")
def exported(request, export_case):
    return export_case(request.param)


@pytest.fixture(scope="module")
def one(export_case):
    return export_case(CASES[1])


def assert_same_detections(found, expected, conf=0.1):
    """Each detection has a partner within half a pixel and 0.01 of the score, unless its score is close to `conf`."""
    assert sum(map(len, expected)) > 10
    for ours, theirs in zip(map(torch.as_tensor, found), map(torch.as_tensor, expected), strict=True):
        for some, others in ((ours, theirs), (theirs, ours)):
            sure = some[some[:, 4] > conf + 0.02]
            steps = sure.new_tensor([0.5, 0.5, 0.5, 0.5, 0.01, 0.5])
            distances = torch.cdist(sure / steps, others / steps, p=torch.inf)
            assert len(sure) == 0 or distances.min(1).values.max() <= 1


def test_run_as_a_script(one, run_script, tmp_path):
    arguments = ("--data", one.data, "--weights", one.weights, "--output", "m.onnx", "--ncnn", "fp32")
    result = run_script("pytorch2onnx.py", *arguments, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "FP32 m.onnx" in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.json", "m.ncnn.bin", "m.ncnn.param", "m.onnx"]


def test_opencv_runs_the_model(one):
    """OpenCV's own network module computes the same as ONNX Runtime."""
    net = cv2.dnn.readNetFromONNX(str(one.output))
    runtime = load_runtime(one.output, one.config)
    net.setInput(cv2.dnn.blobFromImage(one.images[0], 1 / 255))
    expected = runtime.session.run(OUTPUTS, {"images": runtime.prepare(one.images[:1])})
    for values, others in zip(net.forward(OUTPUTS), expected, strict=True):
        np.testing.assert_allclose(values.reshape(others.shape), others, atol=1e-4)


def test_output_and_files(exported):
    result = exported.result
    assert result.stdout.count("wrote FP32") == 2
    assert "largest difference from PyTorch on img/astronaut.jpg:" in result.stdout
    assert len(re.findall(r"detect.* 5 images of img/", result.stdout)) == 2
    assert "layers: 51 Convolution, 27 ConvolutionDepthWise" in result.stdout
    assert sorted(path.name for path in exported.output.parent.iterdir()) == [
        *("model.json", "model.ncnn.bin", "model.ncnn.param", "model.onnx")
    ]


@pytest.mark.parametrize("name", ["model.onnx", "model.ncnn.param"])
def test_all_runtimes_detect_the_same(exported, name):
    runtime = load_runtime(exported.output.with_name(name), exported.config)
    # Without NMS, which all runtimes share, and which may decide differently for boxes that overlap by just the limit.
    expected = load_runtime(exported.weights, exported.config, "cpu").predict(exported.images, Thresholds(0.1, iou=1))
    assert_same_detections(runtime.predict(exported.images, Thresholds(0.1, iou=1)), expected)
    assert runtime.precision == "FP32"


@pytest.mark.parametrize("name", ["model.onnx", "model.ncnn.param"])
def test_threads_do_not_change_the_result(one, name):
    runtime = load_runtime(one.output.with_name(name), one.config)
    expected = runtime.predict(one.images, Thresholds(0.1))
    runtime.set_threads(2)
    assert_same_detections(runtime.predict(one.images, Thresholds(0.1)), expected)
    assert runtime.device_name == "cpu (2 threads)"


def test_inputs_and_outputs_of_the_graph(exported):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(exported.output)
    config = exported.config
    values = 5 * config.anchor_num + config.classes

    def shape(value):
        return [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]

    assert {value.name: shape(value) for value in (*model.graph.input, *model.graph.output)} == {
        "images": [1, 3, config.height, config.width],
        "stride16": [1, config.height // 16, config.width // 16, values],
        "stride32": [1, config.height // 32, config.width // 32, values],
    }
    kinds = {node.op_type for node in model.graph.node}
    assert "BatchNormalization" not in kinds
    assert "Constant" not in kinds
    assert model.opset_import[0].version == 11


def test_the_files_describe_themselves(exported):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(exported.output)
    info = ModelInfo.from_metadata({entry.key: entry.value for entry in model.metadata_props}, "model.onnx")
    content = json.loads(exported.output.with_suffix(".json").read_text(encoding="utf-8"))
    assert info.class_names == exported.config.class_names == tuple(content["names"])
    assert info.anchors == exported.config.anchors
    assert (info.conf, info.iou) == (0.25, 0.5) == (content["conf"], content["iou"])
    assert (content["param"], content["bin"]) == ("model.ncnn.param", "model.ncnn.bin")
    assert content["input"]["name"] == "in0"
    assert content["outputs"] == ["out0", "out1"]


def test_shuffles_use_fast_layers_of_ncnn(exported):
    layers = read_param(exported.output.with_name("model.ncnn.param"))
    kinds = [layer.type for layer in layers]
    assert kinds.count("ShuffleChannel") == kinds.count("Slice") == 13
    # NCNN is fast at interleaving two groups, and slow at the reverse.
    assert all(layer.params == {0: "2", 1: "0"} for layer in layers if layer.type == "ShuffleChannel")
    assert not {"Reshape", "Crop", "Noop"} & set(kinds)
    assert kinds.count("Permute") == 2  # one per output


def test_end_to_end_equals_decoded_outputs(one, tmp_path):
    result = one.run("--end2end", "--conf", 0.1, "--output", tmp_path / "e.onnx", "--dynamic-size")
    assert (result.returncode, result.stderr) == (0, "")
    assert "largest difference from PyTorch on img/astronaut.jpg:" in result.stdout
    runtime = load_runtime(tmp_path / "e.onnx", one.config)
    assert runtime.includes_nms
    assert_same_detections(runtime.predict(one.images, Thresholds(0.1)), one.expected)
    larger = np.kron(one.images, np.ones((1, 2, 1, 1), np.uint8))
    expected = load_runtime(one.weights, one.config, "cpu").predict(larger, Thresholds(0.1))
    assert_same_detections(runtime.predict(larger, Thresholds(0.1)), expected)
    few = runtime.predict(one.images, Thresholds(max_det=2, classes=(0, 2)))
    assert all(len(rows) <= 2 and set(rows[:, 5].tolist()) <= {0.0, 2.0} and (rows[:, 4] > 0.3).all() for rows in few)


def test_end_to_end_without_detections(one, tmp_path):
    assert one.run("--end2end", "--conf", 1, "--output", tmp_path / "e.onnx").returncode == 0
    (found,) = load_runtime(tmp_path / "e.onnx", one.config).predict(one.images[:1], Thresholds(conf=1))
    assert found.shape == (0, 6)


def test_other_thresholds_than_inside_a_model(one, tmp_path):
    assert one.run("--end2end", "--output", tmp_path / "e.onnx").returncode == 0
    runtime = load_runtime(tmp_path / "e.onnx", one.config)
    for thresholds in (Thresholds(0.1), Thresholds(0.5, 0.6), Thresholds(0.5, max_det=301)):
        with pytest.raises(InputError, match=r"e.onnx: expected conf 0.3 or more, iou 0.4, max-det 300 or less"):
            runtime.predict(one.images, thresholds)


def test_dynamic_batch_and_size(one, tmp_path):
    result = one.run("--dynamic-batch", "--dynamic-size", "--output", tmp_path / "d.onnx", "--opset", 17)
    assert (result.returncode, result.stderr) == (0, "")
    runtime = load_runtime(tmp_path / "d.onnx", one.config)
    assert not runtime.one_by_one
    assert_same_detections(runtime.predict(one.images, Thresholds(0.1)), one.expected)
    larger = np.kron(one.images, np.ones((1, 2, 1, 1), np.uint8))
    expected = load_runtime(one.weights, one.config, "cpu").predict(larger, Thresholds(0.1))
    assert_same_detections(runtime.predict(larger, Thresholds(0.1)), expected)


@pytest.mark.parametrize("arguments", [("--half",), ("--half", "--end2end", "--conf", "0.1")])
def test_half_precision(one, tmp_path, arguments):
    result = one.run(*arguments, "--output", tmp_path / "h.onnx")
    assert result.returncode == 0
    # Rounding has a large effect in this random network.
    assert not result.stderr or "h.onnx: float16 changes a probability by 0." in result.stderr
    assert "img/astronaut.jpg" in result.stdout
    assert "wrote FP16" in result.stdout
    assert "in float32: " in result.stdout
    assert (tmp_path / "h.onnx").stat().st_size < one.output.stat().st_size * 0.75
    runtime = load_runtime(tmp_path / "h.onnx", one.config)
    assert runtime.precision == "FP16"
    found = runtime.predict(one.images, Thresholds(0.1))
    assert sum(map(len, found)) == pytest.approx(sum(map(len, one.expected)), rel=0.1)


def test_ncnn_stores_float16_by_default(one, tmp_path):
    assert one.run("--ncnn", "--output", tmp_path / "n.onnx").returncode == 0
    sizes = [path.stat().st_size for path in (tmp_path / "n.ncnn.bin", one.output.with_name("model.ncnn.bin"))]
    assert sizes[0] < sizes[1] * 0.52
    assert load_runtime(tmp_path / "n.ncnn.param", one.config).precision == "FP16"


@pytest.mark.slow
def test_int8_of_a_random_network(one, tmp_path):
    for index in range(4):
        write_image(tmp_path / f"{index}.png", 96, 64, seed=index)
    (tmp_path / "calib.txt").write_text("".join(f"{index}.png\n" for index in range(4)))
    options = ("--ncnn", "--int8", "--calib", tmp_path / "calib.txt", "--dynamic-batch")
    result = one.run(*options, "--output", tmp_path / "q.onnx")
    assert result.returncode == 0
    assert result.stdout.count("wrote INT8") == 2
    assert result.stdout.count("in floating point") == 1
    full = load_runtime(one.weights, one.config, "cpu").predict(one.images, Thresholds(0.2))
    for name in ("q-int8.onnx", "q-int8.ncnn.param"):
        runtime = load_runtime(tmp_path / name, one.config)
        assert runtime.precision == "INT8"
        found = runtime.predict(one.images, Thresholds(0.2))
        assert sum(map(len, found)) == pytest.approx(sum(map(len, full)), rel=0.3)
    in_int8 = {layer.type for layer in read_param(tmp_path / "q-int8.ncnn.param") if INT8_SCALES in layer.params}
    assert in_int8 == {"Convolution"}  # NCNN is slow with depthwise convolutions in int8
    assert (tmp_path / "q-int8.ncnn.bin").stat().st_size < (tmp_path / "q.ncnn.bin").stat().st_size * 0.75


def test_the_scripts_run_exported_models(one, tmp_path, run_script):
    write_image(tmp_path / "a.png", 96, 64)
    found = []
    for weights in (one.weights, one.output, one.output.with_name("model.ncnn.param")):
        data = ("--data", one.data) if weights is one.weights else ()
        # Without NMS, which may decide differently for boxes that overlap by just the limit.
        arguments = ("--img", tmp_path / "a.png", "--conf", 0.1, "--iou", 1, "--json", tmp_path / "found.json")
        result = run_script("test.py", "--weights", weights, *data, *arguments, cwd=tmp_path)
        assert (result.returncode, [line for line in result.stderr.splitlines() if "font" not in line]) == (0, [])
        (frame,) = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["frames"]
        rows = [[*entry["box"], entry["score"], entry["class"]] for entry in frame["detections"]]
        boxes = torch.tensor(rows)
        # A random network also detects boxes that are points; rounding decides whether they have an area.
        found.append([boxes[(boxes[:, 2:4] - boxes[:, :2]).amin(1) > 0.05]])
    assert len(found[0][0]) > 3
    for others in found[1:]:
        assert_same_detections(others, found[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--output", "model.pb"), "--output model.pb: expected"),
        (("--output", "{folder}/w.pth/x.onnx"), "x.onnx: cannot write there"),
        (("--opset", "10"), "--opset: expected a version from 11 to 20, got 10"),
        (("--opset", "21"), "--opset: expected a version from 11 to 20, got 21"),
        (("--opset", "x"), "argument --opset: expected a whole number from 1 to 1,000,000, got 'x'"),
        (("--end2end", "--dynamic-batch"), "--end2end: expected no --dynamic-batch"),
        (("--end2end", "--evaluate"), "--evaluate: expected no --end2end"),
        (("--evaluate",), "val: expected a list of images, got None"),
        (("--weights", "gone.pth"), "gone.pth: cannot read"),
        (("--weights", "{folder}/other.pth"), "other.pth: has 5 classes, {folder}/small.data says 3"),
        (("--weights", "{folder}/small.names"), "small.names: expected a PyTorch weights file"),
        (("--weights", "{folder}/out/model.onnx"), "model.onnx: expected a PyTorch weights file"),
        (("--data", "gone.data"), "gone.data: cannot read"),
        (("--int8", "--calib", "{folder}/empty.txt"), "empty.txt: expected"),
        (("--int8", "--calib", "gone.txt"), "gone.txt: "),
        (("--int8",), "train.txt"),
        (("--int8", "--calib-images", "0"), "--calib-images: expected a whole number from 1 to 1,000,000, got '0'"),
        (("--ncnn", "int8"), "argument --ncnn: invalid choice: 'int8'"),
        (("--conf", "2"), "argument --conf: expected a number from 0 to 1, got '2'"),
    ],
)
def test_bad_input_is_one_line(one, tmp_path, arguments, message):
    save_random_weights(one.folder / "other.pth", 5)
    (one.folder / "empty.txt").write_text("")
    target = tmp_path / "new.onnx"
    result = one.run("--output", target, *(text.format(folder=one.folder) for text in arguments))
    assert result.returncode == 2
    assert message.format(folder=one.folder) in result.stderr
    assert result.stderr.count("error:") == 1
    assert "Traceback" not in result.stderr
    assert "wrote" not in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows does not make folders read-only with chmod")
def test_a_read_only_folder(one, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user can write to all folders")
    result = one.run("--output", folder / "m.onnx")
    assert result.returncode == 2
    assert "m.onnx: cannot write there" in result.stderr


def test_earlier_files_stay_when_an_export_fails(one, tmp_path):
    for name in ("m.onnx", "m.ncnn.param", "m.ncnn.bin", "m.json"):
        (tmp_path / name).write_text("before")
    # The .onnx file could be exported, but the calibration list is missing.
    result = one.run("--ncnn", "--int8", "--calib", "gone.txt", "--output", tmp_path / "m.onnx")
    assert result.returncode == 2
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("m.onnx", "m.ncnn.param", "m.ncnn.bin", "m.json"), "before"
    )


def test_an_interrupted_export_keeps_earlier_files(one, tmp_path, monkeypatch):
    for name in ("m.onnx", "m.ncnn.param"):
        (tmp_path / name).write_text("before")
    copyfile = shutil.copyfile

    def interrupted(source, target):
        if source.suffix == ".onnx":
            return copyfile(source, target)
        target.write_bytes(source.read_bytes()[:1000])
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copyfile", interrupted)
    result = one.run("--ncnn", "--output", tmp_path / "m.onnx")
    assert result.returncode == 130
    assert "error: interrupted" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.ncnn.param", "m.onnx"]
    assert (tmp_path / "m.ncnn.param").read_text() == "before"
    assert load_runtime(tmp_path / "m.onnx", one.config).precision == "FP32"


@pytest.mark.parametrize("package", ["onnx", "onnxslim", "onnxruntime", "pnnx", "ncnn"])
def test_a_missing_package_is_named(one, tmp_path, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    result = one.run("--ncnn", "--output", tmp_path / "m.onnx")
    assert result.returncode == 1
    assert f"needs the package {package}, which is not installed: pip install {package}\n" in result.stderr
    assert "Traceback" not in result.stderr
    # Also of the packages that are used after the first conversion.
    assert "wrote" not in result.stdout
    assert tempfile.gettempdir() not in result.stderr


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.onnx", None, "gone.onnx: expected .* does not exist"),
        ("bad.onnx", b"text", "bad.onnx: expected an ONNX model"),
        ("bad.ncnn.param", b"text", "bad.json: cannot read: No such file"),
        ("bad.ncnn.bin", b"text", "bad.ncnn.bin: expected .*bad.ncnn.param"),
        ("bad.param", b"text", "bad.param: expected .*bad.ncnn.param"),
    ],
)
def test_a_bad_exported_file(one, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_runtime(tmp_path / name, one.config)
    with pytest.raises(InputError, match=message):
        load_runtime(tmp_path / name)


def test_a_truncated_ncnn_model(one, tmp_path):
    for path in one.output.parent.glob("model.*"):
        content = path.read_bytes()
        (tmp_path / path.name).write_bytes(content[:-100] if path.suffix == ".bin" else content)
    with pytest.raises(InputError, match=r"model.ncnn.bin: expected weights of"):
        load_runtime(tmp_path / "model.ncnn.param", one.config)


def test_another_data_file_does_not_fit(one, tmp_path):
    data = write_data(tmp_path)
    with pytest.raises(InputError, match=f"model.onnx: .* 3 classes, {data} has 2"):
        load_runtime(one.output, read_config(data))


def test_exported_models_run_on_the_cpu(one):
    with pytest.raises(InputError, match=r"--device cuda: expected auto or cpu, .*model.onnx"):
        load_runtime(one.output, one.config, "cuda")


def test_described_weights_need_no_data_file(one, tmp_path):
    shutil.copyfile(one.weights, tmp_path / "w.pth")
    add_description(tmp_path / "w.pth", one.data)
    result = export("--weights", tmp_path / "w.pth", "--output", tmp_path / "m.onnx")
    assert (result.returncode, result.stderr) == (0, "")
    info = load_runtime(tmp_path / "m.onnx").info
    assert (info.class_names, info.anchors, info.width) == (
        one.config.class_names,
        one.config.anchors,
        one.config.width,
    )
    for option, needed in (("--evaluate", "--evaluate"), ("--int8", "--calib")):
        result = export("--weights", tmp_path / "w.pth", "--output", tmp_path / "m.onnx", option)
        assert result.returncode == 2
        assert result.stderr.startswith(f"error: {needed}: ")


@pytest.mark.parametrize(("options", "conf"), [((), 0.45), (("--conf", 0.2), 0.2)])
def test_the_threshold_of_the_weights_is_stored(one, tmp_path, options, conf):
    shutil.copyfile(one.weights, tmp_path / "w.pth")
    add_description(tmp_path / "w.pth", one.data, conf=0.45)
    result = export("--weights", tmp_path / "w.pth", "--output", tmp_path / "m.onnx", *options)
    assert (result.returncode, result.stderr) == (0, "")
    assert load_runtime(tmp_path / "m.onnx").info.conf == conf


def test_weights_need_a_data_file(one):
    with pytest.raises(InputError, match=r"--data: expected the .data file of .*w.pth"):
        load_runtime(one.weights)


def test_help_shows_examples_and_options(run_script):
    result = run_script("pytorch2onnx.py", "--help")
    assert result.returncode == 0
    assert "python3 pytorch2onnx.py --data data/coco.data" in result.stdout
    for option in ("opset", "dynamic-batch", "dynamic-size", "end2end", "half", "ncnn", "int8", "calib"):
        assert f"--{option}" in result.stdout
