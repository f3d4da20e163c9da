"""int8 for ONNX Runtime."""

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
