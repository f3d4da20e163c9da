"""The weights that a training run starts from."""

import json
import re
from pathlib import Path

import pytest
import torch

from model.detector import Detector
from utils.errors import InputError, RunError
from utils.training.recipe import RECIPES
from utils.weights import download
from utils.weights.start_weights import start_weights

CLASSES = 6


def filled(classes=CLASSES, anchors=3, seed=1):
    """State dict of a detector with random weights that differ from those of a new detector."""
    torch.manual_seed(seed)
    return {name: torch.rand(tensor.shape) for name, tensor in Detector(classes, anchors).state_dict().items()}


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    """Use a manifest with two files that cannot be downloaded."""
    entries = [
        {"name": name, "about": f"about {name}", "url": "http://127.0.0.1:9/none", "size": 1, "sha256": "0" * 64}
        for name in ("backbone.pth", "detector.pth")
    ]
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(entries), encoding="utf-8")
    monkeypatch.setattr(download, "MANIFEST", path)


def test_full_checkpoint(tmp_path):
    state = filled()
    torch.save(state, tmp_path / "w.pth")
    detector = Detector(CLASSES, 3)
    assert start_weights(detector, "w.pth", tmp_path, ()) == str(tmp_path / "w.pth")
    for name, tensor in detector.state_dict().items():
        assert torch.equal(tensor, state[name].to(tensor.dtype)), name


def test_backbone_alone(tmp_path):
    state = {name.removeprefix("backbone."): t for name, t in filled().items() if name.startswith("backbone.")}
    torch.save(state, tmp_path / "b.pth")
    detector = Detector(CLASSES, 3)
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    assert "skipped" not in start_weights(detector, "b.pth", tmp_path, ())
    for name, tensor in detector.state_dict().items():
        expected = state[name.removeprefix("backbone.")] if name.startswith("backbone.") else before[name]
        assert torch.equal(tensor, expected.to(tensor.dtype)), name


@pytest.mark.parametrize(
    ("classes", "anchors", "skipped"),
    [
        (80, 3, r"skipped 2 .*output_cls_layers.weight, output_cls_layers.bias"),
        (CLASSES, 4, r"skipped 4 .*output_reg_layers.weight, output_reg_layers.bias, "),
        (2, 5, r"skipped 6 .*output_reg_layers.weight, .*, output_obj_layers.bias and 2 more"),
    ],
)
def test_other_classes_and_anchors_load_the_tensors_that_fit(tmp_path, classes, anchors, skipped):
    state = filled(classes, anchors)
    torch.save(state, tmp_path / "w.pth")
    detector = Detector(CLASSES, 3)
    assert re.search(skipped, start_weights(detector, str(tmp_path / "w.pth"), Path(), ()))
    for name, tensor in detector.state_dict().items():
        assert torch.equal(tensor, state[name].to(tensor.dtype)) == (tensor.shape == state[name].shape), name


def test_the_first_released_weights_are_the_default(tmp_path, capsys, manifest):
    torch.save(filled(80), tmp_path / "detector.pth")
    torch.save(filled(CLASSES), tmp_path / "backbone.pth")
    detector = Detector(CLASSES, 3)
    line = start_weights(detector, None, Path(), ("detector.pth", "backbone.pth"))
    assert line.startswith("detector.pth, about detector.pth; skipped 2 ")
    assert torch.equal(detector.output_reg_layers.weight, filled(80)["output_reg_layers.weight"])
    assert capsys.readouterr().err == ""


def test_the_next_released_weights_if_the_first_cannot_be_downloaded(tmp_path, capsys, manifest):
    torch.save(filled(), tmp_path / "backbone.pth")
    line = start_weights(Detector(CLASSES, 3), None, Path(), ("detector.pth", "backbone.pth"))
    assert line == "backbone.pth, about backbone.pth"
    warnings = [text for text in capsys.readouterr().err.splitlines() if text.startswith("warning: ")]
    assert len(warnings) == 1
    assert re.search(r"from backbone.pth: .*detector.pth", warnings[0])


def test_bundled_weights_if_nothing_can_be_downloaded(tmp_path, capsys, manifest):
    torch.save(filled(), tmp_path / "bundled.pth")
    detector = Detector(CLASSES, 3)
    line = start_weights(detector, None, Path(), ("detector.pth", "backbone.pth", "bundled.pth"))
    assert line.startswith("bundled.pth, ")
    assert torch.equal(detector.output_reg_layers.weight, filled()["output_reg_layers.weight"])
    warnings = [text for text in capsys.readouterr().err.splitlines() if text.startswith("warning: ")]
    assert len(warnings) == 1
    assert re.search(r"from bundled.pth: .*detector.pth", warnings[0])


def test_the_weights_of_the_default_recipe_are_listed_or_bundled():
    listed = download.read_manifest()
    for name in RECIPES["default"].start:
        assert name in listed or (download.MANIFEST.parent / name).exists()


def test_random_weights_if_nothing_can_be_downloaded(capsys, manifest):
    detector = Detector(CLASSES, 3)
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    assert "random" in start_weights(detector, None, Path(), ("detector.pth", "backbone.pth"))
    warnings = [text for text in capsys.readouterr().err.splitlines() if text.startswith("warning: ")]
    assert len(warnings) == 1
    assert re.search(r"random weights.*detector.pth", warnings[0])
    for name, tensor in detector.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_listed_weights_that_are_named_are_downloaded_to_their_path(tmp_path, manifest):
    with pytest.raises(RunError, match=r"detector.pth: is missing, and the download failed"):
        start_weights(Detector(CLASSES, 3), str(tmp_path / "zoo/detector.pth"), Path(), ())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"w.pth: .*No such file"),
        ({"w": torch.zeros(2)}, r"w.pth: .*: w$"),
        ({"w": "text"}, r"w.pth: expected .*'w': a str"),
        ({}, r"w.pth: expected .*empty"),
    ],
)
def test_weights_that_cannot_be_loaded(tmp_path, content, message):
    if content is not None:
        torch.save(content, tmp_path / "w.pth")
    with pytest.raises(InputError, match=message):
        start_weights(Detector(CLASSES, 3), "w.pth", tmp_path, ())
