"""Files that pytorch2onnx.py --tflite wrote, and files that were changed."""

import importlib.util
import io
import json
import zipfile

import numpy as np
import pytest

from tests.conftest import REPO
from utils.errors import InputError
from utils.postprocess import Thresholds, detect
from utils.runtimes.loading import load_runtime
from utils.runtimes.tflite_runtime import TfliteRuntime, read_model

MODEL = REPO / "modelzoo" / "mask-160-int8.tflite"
needs_litert = pytest.mark.skipif(
    not importlib.util.find_spec("ai_edge_litert"), reason="needs the package ai-edge-litert"
)


@pytest.fixture
def change(tmp_path):
    """A function that writes the model with another description or network, and returns its path."""

    def change(name="changed.tflite", network=None, **values):
        network = read_model(MODEL)[0] if network is None else network
        with zipfile.ZipFile(MODEL) as archive:
            content = {**json.loads(archive.read("model.json")), **values}
        buffer = io.BytesIO(network)
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.writestr("model.json", json.dumps(content))
        path = tmp_path / name
        path.write_bytes(buffer.getvalue())
        return path

    return change


def test_the_description_is_read():
    network, info = read_model(MODEL)
    assert (info.width, info.height, info.class_names) == (160, 160, ("mask", "no mask"))
    assert info.precision == "INT8"
    assert network[4:8] == b"TFL3"
    assert MODEL.read_bytes().startswith(network)


@pytest.mark.parametrize("keep", [0, 4, 1000, 0.5, 0.999])
def test_a_truncated_file_is_refused(tmp_path, keep):
    content = MODEL.read_bytes()
    path = tmp_path / "short.tflite"
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(InputError, match=r"short\.tflite: ") as raised:
        read_model(path)
    assert "\n" not in str(raised.value)


def test_archives_without_a_valid_description_are_refused(tmp_path):
    path = tmp_path / "m.tflite"
    for name, text in (("other.json", "{}"), ("model.json", "{"), ("model.json", "[]"), ("model.json", b"\xff\xfe")):
        path.unlink(missing_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, text)
        with pytest.raises(InputError, match=r"m\.tflite:"):
            read_model(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.json", " " * (1 << 25))
    with pytest.raises(InputError, match=r"m\.tflite: .* at most"):
        read_model(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_compressed_description_is_refused(tmp_path, method):
    path = tmp_path / "m.tflite"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("model.json", "{}" * 1000)
    content = bytearray(path.read_bytes())
    content[40:60] = b"\xff" * 20  # the compressed text; the entry of the file is at the end
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"m\.tflite: expected the description"):
        read_model(path)


@needs_litert
def test_the_input_is_the_pixel_minus_128():
    images = np.arange(256, dtype=np.uint8)
    runtime = load_runtime(MODEL)
    prepared = runtime.prepare(images)
    np.testing.assert_array_equal(prepared, np.arange(256) - 128)
    assert prepared.dtype == np.int8


@needs_litert
def test_batches_and_threads_do_not_change_the_outputs():
    runtime = load_runtime(MODEL)
    images = np.random.default_rng(0).integers(0, 256, (3, 160, 160, 3), np.uint8)
    expected = [runtime.execute(runtime.prepare(image[None])) for image in images]
    runtime.set_threads(2)
    for scale, single in enumerate(zip(*expected, strict=True)):
        together = runtime.execute(runtime.prepare(images))[scale]
        for values, *others in zip(together, *single, strict=True):
            np.testing.assert_array_equal(values, np.concatenate(others))


@needs_litert
def test_several_threads_may_use_one_runtime():
    from concurrent.futures import ThreadPoolExecutor

    runtime = load_runtime(MODEL)
    images = np.random.default_rng(0).integers(0, 256, (8, 1, 160, 160, 3), np.uint8)
    expected = [runtime.predict(image, Thresholds(0.01))[0] for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: runtime.predict(image, Thresholds(0.01))[0], images))
    for rows, others in zip(found, expected, strict=True):
        np.testing.assert_array_equal(rows, others)


@needs_litert
def test_the_outputs_are_probabilities():
    runtime = load_runtime(MODEL)
    output = runtime.execute(runtime.prepare(np.zeros((1, 160, 160, 3), np.uint8)))
    assert [scale.objectness.shape for scale in output] == [(1, 3, 10, 10), (1, 3, 5, 5)]
    for scale in output:
        for values in scale:
            assert values.min() >= 0
            assert values.max() < 1
            np.testing.assert_array_equal(values * 256, np.round(values * 256))
        np.testing.assert_allclose(scale.classes.sum(1), 1, atol=0.01)
    assert detect(output, runtime.info.anchors, Thresholds(0.99), activated=True)[0].shape == (0, 6)


@needs_litert
@pytest.mark.parametrize(
    "values",
    [
        {"width": 192},
        {"height": 352},
        {"names": ["a"]},
        {"anchors": [[[9, 16]], [[42, 69]]]},
        {"precision": "FP32"},
        {"precision": "INT4"},
    ],
    ids=str,
)
def test_a_description_of_another_network_is_refused(change, values):
    with pytest.raises(InputError, match=r"changed\.tflite: "):
        TfliteRuntime(change(**values))


@needs_litert
@pytest.mark.parametrize("network", [b"", b"TFL3" * 100, b"\0" * 1000], ids=["empty", "text", "zeros"])
def test_a_damaged_network_is_refused(change, network):
    with pytest.raises(InputError, match=r"changed\.tflite: expected a TFLite model") as raised:
        TfliteRuntime(change(network=network))
    assert "\n" not in str(raised.value)


@needs_litert
def test_detection_writes_images(tmp_path, run_script):
    done = run_script("test.py", "--weights", MODEL, "--img", REPO / "img", "--output", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(tmp_path.glob("*.jpg"))) == len(list((REPO / "img").glob("*.jpg"))) > 0


def test_without_the_runtime_the_message_names_it(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(RuntimeError, match=r"ai_edge_litert.*pip install"):
        load_runtime(MODEL)
