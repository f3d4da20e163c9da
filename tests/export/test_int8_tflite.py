"""int8 for TFLite: which tensors share a scale, and the exported file."""

import zipfile

import numpy as np
import pytest

from tests.conftest import REPO
from tests.helpers.dataset_files import write_data, write_image
from tests.helpers.random_detector import save_random_weights
from utils.config import read_config
from utils.export.calibration import read_calibration
from utils.export.exporter import ExportOptions, export
from utils.export.int8_tflite import PIXEL_RANGE, PROBABILITY_RANGE, Layer, join_scales
from utils.export.verify import count_same
from utils.postprocess import Thresholds
from utils.runtimes.loading import load_runtime

INPUT = 0


def test_a_padded_input_has_the_range_of_pixels():
    pad, convolution = Layer("PAD", [INPUT], [1]), Layer("CONV_2D", [1], [2])
    groups = join_scales([INPUT], [pad, convolution])
    assert [(group.tensors, group.range) for group in groups] == [([INPUT, 1], PIXEL_RANGE), ([2], None)]


def test_slices_and_concatenations_join_scales():
    layers = [
        Layer("CONV_2D", [INPUT], [1]),
        Layer("SLICE", [1], [2]),
        Layer("SLICE", [1], [3]),
        Layer("CONV_2D", [2], [4]),
        Layer("CONCATENATION", [3, 4], [5]),
        Layer("CONV_2D", [5], [6]),
    ]
    groups = {tuple(group.tensors): group for group in join_scales([INPUT], layers)}
    assert groups.keys() == {(INPUT,), (1, 2, 3, 4, 5), (6,)}
    # Slices and concatenations repeat values, which must not count twice in a histogram.
    assert groups[1, 2, 3, 4, 5].computed == [1, 4]
    assert groups[1, 2, 3, 4, 5].range is None


def test_an_output_of_probabilities_has_their_range():
    layers = [
        Layer("CONV_2D", [INPUT], [1]),
        Layer("LOGISTIC", [1], [2]),
        Layer("SOFTMAX", [1], [3]),
        Layer("CONCATENATION", [2, 3], [4]),
    ]
    groups = {tuple(group.tensors): group.range for group in join_scales([INPUT], layers)}
    assert groups == {(INPUT,): PIXEL_RANGE, (1,): None, (2, 3, 4): PROBABILITY_RANGE}
    assert [group.tensors for group in join_scales([INPUT], layers) if group.feeds_sigmoid] == [[1]]


@pytest.mark.slow
def test_exported_files_give_the_detections_of_pytorch(tmp_path, run_script):
    pytest.importorskip("litert_torch", reason="the export to TFLite needs requirements-tflite.txt")
    pytest.importorskip("ai_edge_quantizer", reason="the export to TFLite needs requirements-tflite.txt")
    weights, photos = REPO / "modelzoo" / "mask-352.pth", REPO / "img"
    done = run_script(
        *("pytorch2onnx.py", "--weights", weights, "--output", tmp_path / "m.onnx"),
        *("--tflite", "--int8", "--calib", photos),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "m-int8.tflite").stat().st_size < 400_000  # the converter's names of tensors would take 200 KB
    images = np.stack(read_calibration(photos, 5, (352, 352)))
    reference = load_runtime(tmp_path / "m.onnx")
    expected = reference.execute(reference.prepare(images))
    for name, largest, mean in (("m.tflite", 1e-4, 1e-5), ("m-int8.tflite", 0.7, 0.05)):
        runtime = load_runtime(tmp_path / name)
        for scale, other in zip(runtime.execute(runtime.prepare(images)), expected, strict=True):
            for values, others in zip(scale, other, strict=True):
                difference = np.abs(values - others)
                assert difference.max() < largest
                assert difference.mean() < mean
        assert zipfile.ZipFile(tmp_path / name).namelist() == ["model.json"]
        sure = reference.predict(images, Thresholds(0.6))
        likely = runtime.predict(images, Thresholds(0.4))
        assert sum(map(len, sure)) >= 2
        assert [count_same(found, others) for found, others in zip(likely, sure, strict=True)] == list(map(len, sure))


@pytest.mark.parametrize("tflite", ["fp32", "int8"])
def test_without_the_converter_the_message_names_it(tmp_path, monkeypatch, tflite):
    import sys

    monkeypatch.setitem(sys.modules, "litert_torch", None)
    for index in range(2):
        write_image(tmp_path / "train" / f"{index}.png", 120, 90, seed=index)
    weights = str(save_random_weights(tmp_path / "w.pth"))
    config = read_config(write_data(tmp_path, train=None, val=None))
    options = ExportOptions(weights, str(tmp_path / "m.onnx"), tflite=tflite, calib=str(tmp_path / "train"))
    with pytest.raises(RuntimeError, match=r"litert_torch.*pip install"):
        list(export(config, options))
    assert not list(tmp_path.glob("m*.*"))
