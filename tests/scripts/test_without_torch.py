"""Exported models in an environment without PyTorch, matplotlib and what else requirements-run.txt leaves out."""

import json
import os
import re

import pytest

from tests.conftest import REPO
from tests.helpers.dataset_files import write_data, write_image
from tests.helpers.random_detector import save_random_weights

pytestmark = pytest.mark.slow
# An entry None makes each import fail as if the package were not installed.
HIDE = """
import sys
for name in ("torch", "torchvision", "thop", "matplotlib", "yaml", "tensorboard", "onnx", "onnxslim", "pnnx"):
    sys.modules[name] = None
"""
MODELS = ("m.onnx", "m.ncnn.param", "e.onnx")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, run_script):
    """A data set, its random weights, and their exports with and without NMS inside."""
    folder = tmp_path_factory.mktemp("exported")
    for index in range(5):
        write_image(folder / "val" / f"{index}.png", 120, 90, seed=index)
        (folder / "val" / f"{index}.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (folder / "val.txt").write_text("".join(f"val/{index}.png\n" for index in range(5)))
    given = ("--data", write_data(folder, train=None, val="val.txt"))
    given += ("--weights", save_random_weights(folder / "w.pth"))
    for options in (("--output", "m.onnx", "--ncnn", "fp32"), ("--output", "e.onnx", "--end2end", "--conf", 0.01)):
        done = run_script("pytorch2onnx.py", *given, *options, cwd=folder)
        assert done.returncode == 0, done.stderr
    (folder / "hidden").mkdir()
    (folder / "hidden" / "sitecustomize.py").write_text(HIDE)
    return folder


@pytest.fixture
def environment(folder):
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder / "hidden"), str(REPO)))}


@pytest.mark.parametrize("model", MODELS)
def test_evaluation_gives_the_same_metrics(folder, environment, run_script, model):
    metrics = []
    for env in (None, environment):
        options = ("--data", "small.data", "--weights", model, "--json", "metrics.json")
        done = run_script("evaluation.py", *options, cwd=folder, env=env)
        assert (done.returncode, done.stderr) == (0, "")
        metrics.append(json.loads((folder / "metrics.json").read_text()))
    with_torch, without = (content.pop("made_with")["versions"] for content in metrics)
    assert metrics[0] == metrics[1]
    assert metrics[0]["coco"]["AP50"] >= 0
    assert "torch" not in without
    assert without["numpy"] == with_torch["numpy"]


@pytest.mark.parametrize("model", MODELS)
def test_detection_writes_images_and_json(folder, environment, run_script, tmp_path, model):
    options = ("--weights", folder / model, "--img", folder / "val", "--conf", 0.3, "--output", tmp_path / "out")
    done = run_script("test.py", *options, "--json", tmp_path / "found.json", cwd=tmp_path, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((tmp_path / "out").glob("*.png"))) == 5
    assert json.loads((tmp_path / "found.json").read_text())


def test_models_are_compared(folder, environment, run_script):
    options = ("--data", "small.data", "--weights", "m.onnx", "m.ncnn.param", "--threads", 1)
    done = run_script("evaluation.py", *options, cwd=folder, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(re.findall(r"^m\.", done.stdout, re.MULTILINE)) == 2


@pytest.mark.parametrize(
    ("script", "options", "package"),
    [
        ("test.py", ("--data", "small.data", "--weights", "w.pth", "--img", "val"), "torch"),
        ("evaluation.py", ("--data", "small.data", "--weights", "w.pth"), "torch"),
        ("evaluation.py", ("--data", "small.data", "--weights", "m.onnx", "--plots"), "matplotlib"),
    ],
)
def test_a_missing_package_is_one_clear_line(folder, environment, run_script, script, options, package):
    done = run_script(script, *options, cwd=folder, env=environment)
    assert done.returncode == 1
    assert re.fullmatch(rf"error: .* needs the package {package}, .*: pip install {package}\n", done.stderr)
