"""The PyTorch runtime: golden detections, batches, times."""

import numpy as np
import pytest
import torch

from model.detector import Detector
from utils.config import read_config
from utils.postprocess import Thresholds
from utils.runtimes.loading import load_runtime
from utils.runtimes.torch_runtime import TorchRuntime

GOLDEN_IMAGES = ("000000000139", "000000000285", "000000000632", "000000000724")


@pytest.fixture(scope="module")
def released(shared, repo):
    """A runtime with the released checkpoint."""
    weights = shared / "reference" / "coco2017-0.241078ap-model.pth"
    return load_runtime(weights, read_config(repo / "data" / "coco.data"), "cpu")


@pytest.fixture(scope="module")
def golden(shared):
    return np.load(shared / "reference" / "outputs.npz")


def test_golden_detections(released, golden):
    batch = np.stack([golden[f"{image}/input"] for image in GOLDEN_IMAGES])
    for image, found in zip(GOLDEN_IMAGES, released.predict(batch, Thresholds()), strict=True):
        expected = golden[f"{image}/detections"]
        assert len(found) == len(expected) > 0
        assert found[:, 5].tolist() == expected[:, 5].tolist()
        np.testing.assert_allclose(found[:, :4], expected[:, :4], atol=0.1)
        np.testing.assert_allclose(found[:, 4], expected[:, 4], atol=1e-3)


def test_an_image_alone_gives_the_same_as_in_a_batch(released, golden):
    batch = torch.from_numpy(np.stack([golden[f"{image}/input"] for image in GOLDEN_IMAGES]))
    together = released.predict(batch, Thresholds(0.1))
    for image, found in zip(batch, together, strict=True):
        (alone,) = released.predict(image[None], Thresholds(0.1))
        np.testing.assert_allclose(alone, found, atol=1e-2, rtol=1e-3)


def test_options_reach_nms(released, golden):
    image = golden["000000000139/input"][None]
    (everything,) = released.predict(image, Thresholds(0.05))
    (some,) = released.predict(image, Thresholds(0.05, max_det=3))
    np.testing.assert_array_equal(some, everything[:3])
    wanted = int(everything[0, 5])
    (one_class,) = released.predict(image, Thresholds(0.05, classes=(wanted,)))
    np.testing.assert_array_equal(one_class, everything[everything[:, 5] == wanted])


def test_each_part_is_timed(repo):
    config = read_config(repo / "data" / "coco.data")
    runtime = TorchRuntime(Detector(config.classes, config.anchor_num), config, torch.device("cpu"))
    detections, timing = runtime.predict_timed(np.zeros((2, 64, 96, 3), np.uint8), Thresholds(0.5))
    assert [found.shape for found in detections] == [(0, 6)] * 2
    assert min(timing) > 0
    assert runtime.device_name.startswith("cpu")
