"""What an exported model says of itself: there and back, and what is not accepted."""

import dataclasses
import json

import pytest

from tests.helpers.dataset_files import write_data
from utils.config import read_config
from utils.errors import InputError
from utils.runtimes.model_info import (
    check_fits,
    describe_model,
    from_content,
    from_metadata,
    read_json,
    to_content,
    to_metadata,
)


@pytest.fixture
def config(tmp_path):
    return read_config(write_data(tmp_path, names=("猫", "hot dog")))


@pytest.fixture
def info(config):
    return describe_model(config, "ab12", conf=0.3, iou=0.4, precision="FP16")


def content_of(info):
    return json.loads(json.dumps(to_content(info, "images", ("stride16", "stride32"))))


def test_there_and_back_by_json(info):
    assert dataclasses.replace(from_content(content_of(info), "m.json"), path=None) == info


def test_there_and_back_by_metadata(info):
    metadata = to_metadata(to_content(info, "images", ("stride16", "stride32")))
    assert all(isinstance(value, str) for value in metadata.values())
    found = from_metadata({**metadata, "somebody": "else's"}, "m.onnx")
    assert dataclasses.replace(found, path=None) == info


def test_it_says_how_the_input_is_prepared(info):
    content = content_of(info)
    assert content["input"]["name"] == "images"
    assert content["input"]["channels"] == "BGR"
    assert content["input"]["scale"] == pytest.approx(1 / 255)
    assert content["outputs"] == ["stride16", "stride32"]
    assert content["strides"] == [16, 32]


def test_it_stands_for_the_config(info, config):
    assert (info.classes, info.anchor_num) == (config.classes, config.anchor_num) == (2, 3)
    assert info.anchors == config.anchors
    check_fits(info, config)
    check_fits(info, info)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ("cat",)}, r"was exported with classes 1, .*small.data says 2"),
        ({"width": 128}, r"was exported with width 128, .*small.data says 96"),
        ({"height": 96}, r"was exported with height 96, .*small.data says 64"),
        ({"anchors": (((1.0, 2.0),) * 3,) * 2}, r"was exported with anchors \(\(\(1.0, 2.0\)"),
    ],
)
def test_another_data_file_does_not_fit(info, config, changes, message):
    with pytest.raises(InputError, match=message):
        check_fits(dataclasses.replace(info, **changes), config)


def test_translated_names_fit(info, config):
    check_fits(dataclasses.replace(info, class_names=("cat", "hot dog")), config)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", 2, "format: expected 1, which this version reads, got 2"),
        ("format", None, "format: expected 1"),
        ("model_name", "", "model_name: expected a name, got ''"),
        ("model_name", 3, "model_name: expected a name, got 3"),
        ("names", [], r"names: expected class names, got \[\]"),
        ("names", ["cat", ""], r"names: expected class names, got \['cat', ''\]"),
        ("names", "cat", "names: expected class names, got 'cat'"),
        ("names", {"0": "cat"}, "names: expected class names"),
        ("width", 100, "width: expected a multiple of 32, got 100"),
        ("width", "96", "width: expected a multiple of 32, got '96'"),
        ("height", -32, "height: expected a multiple of 32, got -32"),
        ("height", True, "height: expected a multiple of 32, got True"),
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
        ("max_det", 0, "max_det: expected a whole number of 1 or more, got 0"),
        ("precision", "FP8", "precision: expected FP32 or FP16 or INT8, got 'FP8'"),
        ("weights_sha256", None, "weights_sha256: expected a SHA-256, got None"),
    ],
)
def test_a_bad_entry_is_named(info, key, value, message):
    with pytest.raises(InputError, match=f"m.json: {message}"):
        from_content({**content_of(info), key: value}, "m.json")


@pytest.mark.parametrize("key", ["names", "width", "anchors", "conf", "precision"])
def test_a_missing_entry_is_named(info, key):
    content = content_of(info)
    del content[key]
    with pytest.raises(InputError, match=f"m.json: {key}: expected"):
        from_content(content, "m.json")


def test_other_json_is_no_description(tmp_path):
    with pytest.raises(InputError, match=r"m.json: expected the description of a model, got a list"):
        from_content([], "m.json")
    (tmp_path / "m.json").write_text('{\n"a": }', encoding="utf-8")
    with pytest.raises(InputError, match=r"m.json:2: expected JSON"):
        read_json(tmp_path / "m.json")
    with pytest.raises(InputError, match=r"gone.json: cannot read"):
        read_json(tmp_path / "gone.json")


def test_metadata_of_others():
    with pytest.raises(InputError, match=r"m.onnx: expected the metadata that pytorch2onnx.py writes .*, got none"):
        from_metadata({"producer": "somebody"}, "m.onnx")
    with pytest.raises(InputError, match=r"m.onnx: expected metadata in JSON"):
        from_metadata({"format": "1", "names": "{0: 'cat'}"}, "m.onnx")
