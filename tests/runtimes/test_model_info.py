"""The description of an exported model: written, read back, and rejected if it is wrong."""

import dataclasses
import json

import pytest

from tests.helpers.dataset_files import write_data
from utils.config import read_config
from utils.errors import InputError
from utils.runtimes.model_info import ModelInfo


@pytest.fixture
def config(tmp_path):
    return read_config(write_data(tmp_path, names=("猫", "hot dog")))


@pytest.fixture
def info(config):
    return ModelInfo.from_config(config, conf=0.3, iou=0.4, max_det=300, precision="FP16", weights_sha256="ab12")


def content_of(info):
    return json.loads(json.dumps(info.to_dict("images", ("stride16", "stride32"))))


def test_a_description_is_read_back(info):
    assert dataclasses.replace(ModelInfo.from_dict(content_of(info), "m.json"), path=None) == info


def test_a_description_is_read_back_from_metadata(info):
    metadata = {key: json.dumps(value) for key, value in content_of(info).items()}
    read = ModelInfo.from_metadata({**metadata, "other": "not JSON"}, "m.onnx")
    assert dataclasses.replace(read, path=None) == info


def test_the_input_is_described(info):
    content = content_of(info)
    assert content["input"]["name"] == "images"
    assert content["input"]["channels"] == "BGR"
    assert content["input"]["scale"] == pytest.approx(1 / 255)
    assert content["outputs"] == ["stride16", "stride32"]
    assert content["strides"] == [16, 32]


def test_it_can_replace_the_config(info, config):
    assert (info.classes, info.anchor_num) == (config.classes, config.anchor_num) == (2, 3)
    assert info.anchors == config.anchors
    info.check_fits(config)
    info.check_fits(info)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ("cat",)}, "1 class, .*small.data has 2"),
        ({"width": 128}, "width 128, .*small.data has 96"),
        ({"height": 96}, "height 96, .*small.data has 64"),
    ],
)
def test_another_data_file_does_not_fit(info, config, changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(info, **changes).check_fits(config)


def test_other_anchors_cause_a_warning(info, config, capsys):
    dataclasses.replace(info, anchors=(((1.0, 2.0),) * 3,) * 2).check_fits(config)
    assert "anchors" in capsys.readouterr().err


def test_translated_names_fit(info, config):
    dataclasses.replace(info, class_names=("cat", "hot dog")).check_fits(config)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", 2, "format: expected 1, got 2"),
        ("format", None, "format: expected 1"),
        ("model_name", "", "model_name: expected a name, got ''"),
        ("model_name", 3, "model_name: expected a name, got 3"),
        ("names", [], r"names: expected class names, got \[\]"),
        ("names", ["cat", ""], r"names: expected class names, got \['cat', ''\]"),
        ("names", "cat", "names: expected class names, got 'cat'"),
        ("names", {"0": "cat"}, "names: expected class names"),
        ("width", 100, "width: expected a multiple of 32, at most 8192, got 100"),
        ("width", "96", "width: expected a multiple of 32, at most 8192, got '96'"),
        ("height", -32, "height: expected a multiple of 32, at most 8192, got -32"),
        ("height", True, "height: expected a multiple of 32, at most 8192, got True"),
        ("anchors", [[[1, 2]]], "anchors: expected 2 lists"),
        ("anchors", [[[1, 2]], [[1, 2], [3, 4]]], "anchors: expected 2 lists"),
        ("anchors", [[], []], "anchors: expected 2 lists"),
        ("anchors", [[[1]], [[2]]], "anchors: expected 2 lists"),
        ("anchors", [[[1, 0]], [[2, 3]]], "anchors: expected 2 lists"),
        ("anchors", 7, "anchors: expected 2 lists"),
        ("anchors", [[[1, "2"]], [[2, 3]]], "anchors: expected 2 lists"),
        ("conf", 1.5, "conf: expected a number from 0 to 1, got 1.5"),
        ("conf", "0.3", "conf: expected a number from 0 to 1, got '0.3'"),
        ("iou", None, "iou: expected a number from 0 to 1, got None"),
        ("max_det", 0, "max_det: expected a whole number from 1 to 1,000,000, got 0"),
        ("max_det", 10**30, "max_det: expected a whole number"),
        ("width", 3_200_000, "width: expected a multiple of 32"),
        ("width", 1e400, "width: expected a multiple of 32"),
        ("width", float("nan"), "width: expected a multiple of 32"),
        ("height", 10**4000, "height: expected a multiple of 32"),
        ("anchors", [[[10**400, 1]], [[2, 3]]], "anchors: expected 2 lists"),
        ("anchors", [[[1e308, 1]], [[2, 3]]], "anchors: expected 2 lists"),
        ("anchors", [[[float("nan"), 1]], [[2, 3]]], "anchors: expected 2 lists"),
        ("anchors", [[[True, 1]], [[2, {}]]], "anchors: expected 2 lists"),
        ("anchors", [[[1, 1]] * 10**4] * 2, "anchors: expected 2 lists"),
        ("names", ["x" * 10**6], "names: expected class names"),
        ("model_name", "x" * 10**6, "model_name: expected a name"),
        ("conf", float("nan"), "conf: expected a number from 0 to 1"),
        ("weights_sha256", "0" * 10**6, "weights_sha256: expected a SHA-256"),
        ("precision", "FP8", "precision: expected FP32 or FP16 or INT8, got 'FP8'"),
        ("weights_sha256", None, "weights_sha256: expected a SHA-256, got None"),
    ],
)
def test_a_bad_entry_is_named(info, key, value, message):
    with pytest.raises(InputError, match=f"m.json: {message}"):
        ModelInfo.from_dict({**content_of(info), key: value}, "m.json")


def test_a_number_that_python_does_not_print(info):
    with pytest.raises(InputError, match=r"m\.json: width: .*, got an int"):
        ModelInfo.from_dict({**content_of(info), "width": 10**5000}, "m.json")


@pytest.mark.parametrize("key", ["names", "width", "anchors", "conf", "precision"])
def test_a_missing_entry_is_named(info, key):
    content = content_of(info)
    del content[key]
    with pytest.raises(InputError, match=f"m.json: {key}: expected"):
        ModelInfo.from_dict(content, "m.json")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"format": 1, "width": ' + "1" * 5000 + "}",
        '{"format": 1, "width": 1e400}',
        '{"format": NaN}',
        '{"format": 1, "format": 2}',
    ],
    ids=["lists", "objects", "digits", "infinite", "NaN", "repeated"],
)
def test_hostile_json_gets_one_line(tmp_path, text):
    path = tmp_path / "m.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"m\.json: ") as raised:
        ModelInfo.from_json(path)
    assert len(str(raised.value)) < len(str(path)) + 200
    with pytest.raises(InputError, match=r"m\.onnx: "):
        ModelInfo.from_metadata({"width": text}, tmp_path / "m.onnx")


def test_other_json_files_are_rejected(tmp_path):
    with pytest.raises(InputError, match=r"m.json: expected .*, got a list"):
        ModelInfo.from_dict([], "m.json")
    (tmp_path / "m.json").write_text('{\n"a": }', encoding="utf-8")
    with pytest.raises(InputError, match=r"m.json:2: expected JSON"):
        ModelInfo.from_json(tmp_path / "m.json")
    with pytest.raises(InputError, match=r"gone.json: cannot read"):
        ModelInfo.from_json(tmp_path / "gone.json")


def test_other_metadata_is_rejected():
    with pytest.raises(InputError, match=r"m.onnx: expected the metadata .*, got none"):
        ModelInfo.from_metadata({"producer": "somebody"}, "m.onnx")
    with pytest.raises(InputError, match=r"m.onnx: names:1: expected JSON"):
        ModelInfo.from_metadata({"format": "1", "names": "{0: 'cat'}"}, "m.onnx")
