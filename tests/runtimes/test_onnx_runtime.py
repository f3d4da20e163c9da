"""Exported .onnx files that were changed."""

import numpy as np
import pytest

from utils.errors import InputError
from utils.postprocess import Thresholds
from utils.runtimes.onnx_runtime import OnnxRuntime

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def exported(tmp_path_factory, repo):
    from utils.export.exporter import ExportOptions, export

    path = tmp_path_factory.mktemp("export") / "model.onnx"
    list(export(None, ExportOptions(weights=str(repo / "modelzoo/mask-352.pth"), output=str(path))))
    return path


def set_metadata(key, value):
    def change(model):
        (entry,) = (entry for entry in model.metadata_props if entry.key == key)
        entry.value = value

    return change


def remove_output(model):
    del model.graph.output[1]


def rename_output(model):
    for node in model.graph.node:
        node.output[:] = ["other" if name == "stride32" else name for name in node.output]
    model.graph.output[1].name = "other"


def claim_external_data(model):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")


def claim_many_values(model):
    model.graph.initializer[0].dims[0] = 2**40


def convert_to_float16(model):
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model.CopyFrom(convert_float_to_float16(model))


CHANGES = {
    "fewer anchors": set_metadata("anchors", "[[[9, 16]], [[42, 69]]]"),
    "another width": set_metadata("width", "320"),
    "another height": set_metadata("height", "8192"),
    "another class": set_metadata("names", '["a", "b", "c"]'),
    "an output less": remove_output,
    "another output": rename_output,
    "external data": claim_external_data,
    "a huge tensor": claim_many_values,
    "float16 input and outputs": convert_to_float16,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_model_is_refused_when_it_is_opened(exported, tmp_path, change):
    model = onnx.load(exported)
    CHANGES[change](model)
    path = tmp_path / "changed.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"changed\.onnx: ") as raised:
        OnnxRuntime(path)
    assert "\n" not in str(raised.value)


def test_the_exported_model_itself_runs(exported):
    image = np.zeros((1, 352, 352, 3), np.uint8)
    assert len(OnnxRuntime(exported).predict(image, Thresholds())) == 1


def test_the_order_of_the_outputs_does_not_matter(exported, tmp_path):
    model = onnx.load(exported)
    model.graph.output.append(model.graph.output.pop(0))
    path = tmp_path / "changed.onnx"
    path.write_bytes(model.SerializeToString())
    image = np.random.default_rng(0).integers(0, 256, (1, 352, 352, 3), np.uint8)
    found, expected = (runtime.execute(runtime.prepare(image)) for runtime in map(OnnxRuntime, (path, exported)))
    for scale, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(scale.boxes, other.boxes)
