"""Shared fixtures: paths, a runner of scripts, detections of the released checkpoint, and the compiled kernels."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import hypothesis
import pytest

# Test processes that run in parallel share the cores: with several OpenMP threads each, they wait for each other. This
# is set before anything imports torch, and scripts that tests start inherit it.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # NCNN starts one thread per core anyway

# No deadline: a test is not wrong because the machine is busy.
hypothesis.settings.register_profile("project", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("project")

REPO = Path(__file__).resolve().parents[1]
SHARED = REPO.parent / "shared"


def pytest_addoption(parser):
    parser.addoption("--gpu", action="store_true", help="run the tests that need a CUDA GPU, and only these")


def pytest_configure(config):
    # Most tests compare results exactly. A GPU does not add in a fixed order, so they run on the CPU.
    if not config.getoption("--gpu"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(config, items):
    # Files with slow tests first, so that parallel processes end at about the same time.
    slow_files = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow_files)
    if not config.getoption("--gpu"):
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a GPU; pytest --gpu runs it"))
        return
    others = [item for item in items if not item.get_closest_marker("gpu")]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item.get_closest_marker("gpu")]


class Released(NamedTuple):
    """Detections of the released checkpoint on coco-val128."""

    index: object  # DatasetIndex
    detections: list  # one [n, 6] array per image
    class_names: tuple


@pytest.fixture(scope="session")
def repo():
    """The project's folder."""
    return REPO


@pytest.fixture(scope="session")
def shared():
    """Development data next to the project: images, released weights and golden metrics."""
    if not (SHARED / "reference").is_dir():
        pytest.skip("needs the development data in ../shared")
    return SHARED


@pytest.fixture(scope="session")
def run_script():
    """Run a script with this Python, as a user would from the project's folder.

    `run_script("test.py", "--conf", 0.5, cwd=folder)` returns the CompletedProcess with stdout and stderr as text.
    The script's path is relative to the project, whatever `cwd` is.
    """

    def run(script, *arguments, cwd=REPO, timeout=600, **options):
        command = [sys.executable, str(REPO / script), *map(str, arguments)]
        return subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, encoding="utf-8", timeout=timeout, check=False, **options
        )

    return run


@pytest.fixture(scope="session")
def released(shared):
    """Detections of the released checkpoint on coco-val128 with scores above 0.01."""
    import torch

    from model.detector import Detector
    from utils.config import read_config
    from utils.dataset.dataset import DetectionDataset
    from utils.dataset.index import load_index
    from utils.postprocess import Thresholds, detect
    from utils.weights.checkpoint import load_weights

    config = read_config(REPO / "data" / "coco.data")
    detector = Detector(config.classes, config.anchor_num).eval()
    load_weights(detector, shared / "reference" / "coco2017-0.241078ap-model.pth")
    index = load_index(shared / "coco-val128" / "val.txt", config.classes, cache=False)
    dataset = DetectionDataset(index, config.width, config.height)
    detections = []
    with torch.inference_mode():
        for position in range(len(dataset)):
            pixels = dataset[position][0][None].float() / 255
            detections += detect(detector(pixels), config.anchors, Thresholds(0.01))
    return Released(index, detections, config.class_names)


@pytest.fixture(scope="session")
def kernels():
    """Compile the kernels, or skip the test if there is no compiler."""
    from utils.kernels.library import BuildError, get_kernels

    try:
        get_kernels()
    except BuildError as error:
        pytest.skip(f"needs a C++ compiler: {error}")
