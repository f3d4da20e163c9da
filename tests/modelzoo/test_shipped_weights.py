"""The bundled weights have the hash, the metrics and the behavior that their cards state."""

import dataclasses
import hashlib
import json
import re
from pathlib import Path

import pytest
import torch

from model.detector import Detector
from utils.config import read_config
from utils.dataset.index import load_index
from utils.dataset.shapes import make_shapes
from utils.evaluation.detect import detect_images
from utils.evaluation.evaluate import compute_metrics
from utils.runtimes.loading import load_runtime
from utils.runtimes.tflite_runtime import read_model
from utils.weights.checkpoint import load_weights

pytestmark = pytest.mark.slow

REPO = Path(__file__).resolve().parents[2]
CARDS = (REPO / "modelzoo" / "README.md").read_text(encoding="utf-8")
NAMES = sorted(path.name for size in (352, 160) for path in (REPO / "modelzoo").glob(f"*-{size}.pth"))
DRAWN = "shapes-352.pth"  # its val images are drawn, so every machine has them
# Around the faces of img/: x1, y1, x2, y2 in pixels.
FACES = {"astronaut.jpg": (173, 62, 280, 182), "hopper.jpg": (160, 105, 373, 340)}


def card(name):
    """The section of a weights file in modelzoo/README.md."""
    return CARDS.split(f"## {name}")[1].split("\n## ")[0]


def config_of(name):
    return read_config(str(REPO / "data" / f"{name.removesuffix('-352.pth').removesuffix('.pth')}.data"))


def test_every_file_has_a_card():
    assert sorted(re.findall(r"^## (\S+\.pth)$", CARDS, re.MULTILINE)) == NAMES
    assert "mask-352.pth" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_hash_and_parameters_match_the_card(name):
    path = REPO / "modelzoo" / name
    assert hashlib.sha256(path.read_bytes()).hexdigest() in card(name)
    state = torch.load(path, weights_only=True)
    assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())
    config = config_of(name)
    detector = Detector(config.classes, config.anchor_num)
    load_weights(detector, path, asked_by=config.path)
    parameters = sum(weight.numel() for weight in detector.parameters())
    assert f"{parameters:,} parameters" in card(name)


def test_the_int8_file_was_exported_from_the_weights():
    path, weights = REPO / "modelzoo" / "mask-160-int8.tflite", REPO / "modelzoo" / "mask-160.pth"
    assert hashlib.sha256(path.read_bytes()).hexdigest() in card("mask-160.pth")
    _, info = read_model(path)
    assert info.weights_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_the_demo_detects_the_faces_and_nothing_in_the_rocket(tmp_path, run_script):
    result = tmp_path / "found.json"
    options = {"--data": "data/mask.data", "--weights": "modelzoo/mask-352.pth", "--img": "img"}
    arguments = [text for name, path in options.items() for text in (name, REPO / path)]
    done = run_script("test.py", *arguments, "--json", result, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    frames = json.loads(result.read_text(encoding="utf-8"))["frames"]
    found = {Path(frame["file"]).name: frame["detections"] for frame in frames}
    for image, (x1, y1, x2, y2) in FACES.items():
        (face,) = found[image]
        assert face["name"] == "no mask"
        left, top, right, bottom = face["box"]
        common = max(0, min(x2, right) - max(x1, left)) * max(0, min(y2, bottom) - max(y1, top))
        union = (x2 - x1) * (y2 - y1) + (right - left) * (bottom - top) - common
        assert common / union > 0.7, (image, face)
    assert found["rocket.jpg"] == []


def check_metrics(name, val):
    """Compare the metrics on the card with those of the weights on a val list."""
    config = dataclasses.replace(config_of(name), val=val)
    index = load_index(config.val, config.classes)
    runtime = load_runtime(str(REPO / "modelzoo" / name), config, "cpu")
    detections = detect_images(runtime, index, config, batch_size=16, workers=2)
    metrics = compute_metrics(detections, index, config).coco.summary
    numbers = re.search(r"AP50, AP75, AP \| ([\d.]+), ([\d.]+), ([\d.]+)", card(name)).groups()
    # Rounding differs between processors.
    for found, expected in zip(("AP50", "AP75", "AP"), numbers, strict=True):
        assert metrics[found] == pytest.approx(float(expected), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != DRAWN])
def test_metrics_match_the_card(name, shared):
    val = shared / name.partition("-")[0] / "val.txt"
    if not val.exists():
        pytest.skip(f"needs {val}")
    check_metrics(name, val)


def test_metrics_on_the_synthetic_images_match_the_card(tmp_path):
    make_shapes(tmp_path / "shapes", train=1)
    check_metrics(DRAWN, tmp_path / "shapes" / "val.txt")
