"""Cross-compile the C++ sample for 64-bit ARM, run it in QEMU, and compare its detections with PyTorch's.

Needs Debian's g++-aarch64-linux-gnu and qemu-user, and an NCNN that was built with the same compiler and
-DNCNN_SIMPLEOCV=ON (docs/raspberry-pi.md), whose installation NCNN_AARCH64 names.
"""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import REPO
from tests.sample.test_ncnn_sample import as_array, read_lines, run
from utils.dataset.images import read_image
from utils.dataset.lists import list_images
from utils.detect.run import FrameDetector
from utils.postprocess import Thresholds
from utils.runtimes.loading import load_runtime

pytestmark = pytest.mark.slow

WEIGHTS = REPO / "modelzoo" / "mask-352.pth"
EMULATOR = ("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu")
CONF, IOU = 0.3, 0.4
BOX_TOLERANCE = 4  # image pixels
SCORE_TOLERANCE = {"fp32": 0.01, "fp16": 0.03}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    for program in ("cmake", "aarch64-linux-gnu-g++", EMULATOR[0]):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    installed = os.environ.get("NCNN_AARCH64")
    if not installed:
        pytest.skip("NCNN_AARCH64 is not set to the folder of an NCNN for aarch64")
    source, folder = REPO / "sample" / "ncnn", tmp_path_factory.mktemp("arm")
    configured = run(
        ["cmake", "-S", source, "-B", folder, "-DWITH_OPENCV=OFF", f"-DCMAKE_PREFIX_PATH={installed}",
         f"-DCMAKE_TOOLCHAIN_FILE={source / 'aarch64-linux-gnu.cmake'}"]
    )  # fmt: skip
    assert configured.returncode == 0, configured.stderr
    built = run(["cmake", "--build", folder, "--parallel", "2"])
    assert built.returncode == 0, built.stderr
    assert "warning:" not in built.stdout + built.stderr
    return folder / "demo"


@pytest.fixture(scope="module")
def exported(tmp_path_factory, run_script):
    pytest.importorskip("pnnx", reason="the export to NCNN needs pnnx")
    target = tmp_path_factory.mktemp("export") / "mask.onnx"
    done = run_script("pytorch2onnx.py", "--weights", WEIGHTS, "--output", target, "--ncnn")
    assert done.returncode == 0, done.stderr
    return target.with_suffix(".json")


@pytest.mark.parametrize("arithmetic", SCORE_TOLERANCE)
def test_arm_gives_the_detections_of_pytorch(demo, exported, tmp_path, arithmetic):
    (tmp_path / "in").mkdir()
    paths = list_images(REPO / "img")
    for path in paths:  # PNG, which all decoders read identically
        cv2.imwrite(str(tmp_path / "in" / f"{Path(path).stem}.png"), read_image(path))
    command = [*EMULATOR, demo, exported, tmp_path / "in", "--output", tmp_path / "out", "--arithmetic", arithmetic]
    records = read_lines(run(command))
    runtime = load_runtime(WEIGHTS, device="cpu")
    detector = FrameDetector(runtime, (runtime.info.width, runtime.info.height), Thresholds(CONF, IOU))
    tolerance, count = SCORE_TOLERANCE[arithmetic], 0
    for record, path in zip(records, sorted(paths), strict=True):
        expected, _ = detector(read_image(path))
        for these, others in ((as_array(record), expected), (expected, as_array(record))):
            for row in these[these[:, 4] > CONF + tolerance]:
                distance = np.abs(others - row)
                near = (distance[:, :4] <= BOX_TOLERANCE).all(1) & (distance[:, 4] <= tolerance)
                assert (near & (distance[:, 5] == 0)).any(), (path, row, others)
                count += 1
    assert count >= 4
    assert len(records) == len(paths)


def test_float16_arithmetic_is_used(demo, exported, tmp_path):
    """The scores differ a little from those of float32, which is the only sign of it."""
    scores = []
    for arithmetic in SCORE_TOLERANCE:
        command = [*EMULATOR, demo, exported, REPO / "img" / "astronaut.jpg", "--conf", 0.01]
        (record,) = read_lines(run([*command, "--output", tmp_path, "--arithmetic", arithmetic]))
        scores.append(as_array(record)[:, 4].max())
    assert 0 < abs(scores[0] - scores[1]) < SCORE_TOLERANCE["fp16"]
