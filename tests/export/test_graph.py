"""The exported graph with decoding and NMS inside."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from model.detector import Detector
from tests.helpers.random_detector import save_random_weights
from utils.export.graph import EndToEndDetector
from utils.export.onnx_export import to_onnx
from utils.postprocess import Thresholds
from utils.runtimes.onnx_runtime import create_session
from utils.weights.checkpoint import load_weights

SIZE = (32, 32)
INFO = SimpleNamespace(anchors=[[[1.875, 1.875]], [[1.875, 1.875]]], thresholds=Thresholds(max_det=1000))


@pytest.fixture
def detector(tmp_path):
    """A network that detects an object of any of two classes in the middle of each cell."""
    detector = Detector(2, 1)
    load_weights(detector, save_random_weights(tmp_path / "w.pth", 2, anchor_num=1))
    for layer, logit in ((detector.output_reg_layers, 0.0), (detector.output_obj_layers, 5.0)):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.constant_(layer.bias, logit)
    return detector.eval()


def test_boxes_of_different_classes_do_not_suppress_each_other_in_larger_images(detector):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = to_onnx(EndToEndDetector(detector, INFO), SIZE, 13, dynamic_size=True)
    image = np.random.default_rng(0).random((1, 3, 256, 320), np.float32)
    (found,) = create_session(model.SerializeToString()).run(None, {"images": image})
    assert set(found[:, 5]) == {0, 1}
    assert len(found) == 16 * 20 + 8 * 10
