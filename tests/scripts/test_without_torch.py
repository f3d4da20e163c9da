"""Exported models in an environment that has only the packages of requirements-run.txt."""

import json
import os
import re

import pytest

from tests.conftest import REPO
from tests.helpers.dataset_files import write_data, write_image
from tests.helpers.random_detector import save_random_weights
from utils.config import read_config
from utils.dataset.index import open_list
from utils.evaluation.detect import detect_images
from utils.evaluation.evaluate import compute_metrics
from utils.evaluation.report import metrics_content
from utils.export.exporter import ExportOptions, export
from utils.runtimes.loading import load_runtime

pytestmark = pytest.mark.slow
# An entry None makes each import fail as if the package were not installed.
HIDE = """
import sys
for name in ("torch", "torchvision", "thop", "matplotlib", "yaml", "tensorboard", "onnx", "onnxslim", "pnnx"):
    sys.modules[name] = None
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set, its random weights, and their exports with and without NMS inside."""
    folder = tmp_path_factory.mktemp("exported")
    for index in range(5):
        write_image(folder / "val" / f"{index}.png", 120, 90, seed=index)
        (folder / "val" / f"{index}.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (folder / "val.txt").write_text("".join(f"val/{index}.png\n" for index in range(5)))
    config = read_config(write_data(folder, train=None, val="val.txt"))
    weights = str(save_random_weights(folder / "w.pth"))
    for options in (
        ExportOptions(weights, str(folder / "m.onnx"), ncnn="fp32"),
        ExportOptions(weights, str(folder / "e.onnx"), end2end=True, conf=0.01),
    ):
        assert list(export(config, options))
    (folder / "hidden").mkdir()
    (folder / "hidden" / "sitecustomize.py").write_text(HIDE)
    return folder


@pytest.fixture
def environment(folder):
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder / "hidden"), str(REPO)))}


@pytest.mark.parametrize("model", ["m.onnx", "m.ncnn.param", "e.onnx"])
def test_evaluation_gives_the_same_metrics(folder, environment, run_script, model):
    options = ("--data", "small.data", "--weights", model, "--json", "metrics.json")
    done = run_script("evaluation.py", *options, cwd=folder, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((folder / "metrics.json").read_text())
    config = read_config(folder / "small.data")
    index = open_list(config, "val")
    detections = detect_images(load_runtime(folder / model, config), index, config)
    expected = compute_metrics(detections, index, config)
    assert found["coco"] == metrics_content(expected, index, config, folder / model, "cpu", {})["coco"]
    assert "torch" not in found["made_with"]["versions"]


def test_detection_writes_images_and_json(folder, environment, run_script, tmp_path):
    options = ("--weights", folder / "m.onnx", "--img", folder / "val", "--conf", 0.3, "--output", tmp_path / "out")
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
