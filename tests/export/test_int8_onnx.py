"""int8 for ONNX Runtime."""

import pytest


def test_shared_weights_become_separate():
    onnx = pytest.importorskip("onnx")
    from utils.export.int8_onnx import unshare_weights

    nodes = [onnx.helper.make_node("Conv", [f"x{n}", "weight", "bias"], [f"y{n}"], name=f"conv{n}") for n in range(3)]
    values = [onnx.helper.make_tensor(name, 1, [1], [0.5]) for name in ("weight", "bias")]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], [], values))
    changed = unshare_weights(model)
    names = [name for node in changed.graph.node for name in node.input[1:]]
    assert len(set(names)) == 6
    assert {tensor.name for tensor in changed.graph.initializer} == set(names)
    assert len(model.graph.initializer) == 2
