"""The AP of exported models. tests/scripts/test_pytorch2onnx.py has the other tests of the exporter."""

import json

import pytest

from tests.scripts.test_pytorch2onnx import export
from utils.config import read_config
from utils.dataset.index import load_index
from utils.evaluation.detect import detect_images
from utils.evaluation.evaluate import compute_metrics
from utils.runtimes.loading import load_runtime


@pytest.mark.slow
def test_ap_of_the_released_checkpoint(shared, repo, tmp_path):
    """Calibrate on the first 64 of 128 images: AP50 drops by at most 1.0 points with ONNX, 1.5 with NCNN."""
    images = shared / "coco-val128" / "val.txt"
    weights = shared / "reference" / "coco2017-0.241078ap-model.pth"
    data = repo / "data" / "coco.data"
    arguments = ("--data", data, "--weights", weights, "--output", tmp_path / "m.onnx")
    result = export(*arguments, "--ncnn", "--int8", "--calib", images)
    assert (result.returncode, result.stderr) == (0, "")
    config = read_config(data)
    index = load_index(images, config.classes, cache=False)

    def ap50(name):
        found = detect_images(load_runtime(tmp_path / name, config), index, config, 32, 2)
        return compute_metrics(found, index, config).coco.summary["AP50"]

    full = ap50("m.onnx")
    assert full == pytest.approx(0.3364, abs=5e-4)
    assert ap50("m.ncnn.param") == pytest.approx(full, abs=2e-3)
    assert ap50("m-int8.onnx") > full - 0.010
    assert ap50("m-int8.ncnn.param") > full - 0.015
    sizes = [(tmp_path / f"m-int8.ncnn.{end}").stat().st_size for end in ("param", "bin")]
    assert sum(sizes) < 350_000
    assert json.loads((tmp_path / "m-int8.json").read_text(encoding="utf-8"))["precision"] == "INT8"
