"""int8 for ONNX Runtime."""

import numpy as np
import pytest

from model.detector import Detector
from utils.export.graph import ActivatedDetector
from utils.export.rewrite import slice_channels


def test_no_two_layers_of_the_exported_network_share_weights():
    # ONNX Runtime would use the quantization scale of one layer for both.
    pytest.importorskip("onnx")
    from utils.export.onnx_export import to_onnx

    model = to_onnx(ActivatedDetector(slice_channels(Detector(2, 3))), (96, 64), 13)
    weights = [node.input[1] for node in model.graph.node if node.op_type == "Conv"]
    assert len(weights) == len(set(weights)) == 76


def test_the_layers_that_int8_would_slow_down_stay_in_float():
    pytest.importorskip("onnx")
    from utils.export.int8_onnx import quantize
    from utils.export.onnx_export import to_onnx

    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    model = to_onnx(ActivatedDetector(slice_channels(Detector(2, 3))), (96, 64), 13)
    nodes = quantize(model, [image]).graph.node
    int8 = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    assert len(convolutions) == 76
    # The first convolution, and two and three of the branches of the first block.
    assert [node.input[0] in int8 for node in convolutions].count(False) == 6
    assert [node.input[1] in int8 for node in convolutions].count(False) == 6
