"""The benchmarks run, write JSON files with machine and versions, and RESULTS.md contains the values."""

import json

import pytest

from benchmarks import results
from tests.conftest import REPO
from tests.helpers.dataset_files import write_data, write_image
from tests.helpers.random_detector import save_random_weights
from utils.errors import InputError

pytestmark = pytest.mark.slow

SCRIPTS = sorted(path.stem for path in (REPO / "benchmarks").glob("*.py") if path.stem != "result_file")


@pytest.fixture(scope="module")
def exported(tmp_path_factory, run_script):
    """A small network exported for NCNN and ONNX Runtime."""
    folder = tmp_path_factory.mktemp("exported")
    data = write_data(folder, ("cat", "dog"))
    weights = save_random_weights(folder / "w.pth", 2)
    arguments = ("--data", data, "--weights", weights, "--output", folder / "model.onnx", "--ncnn")
    done = run_script("pytorch2onnx.py", *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_has_an_example(run_script, name):
    done = run_script(f"benchmarks/{name}.py", "--help")
    assert done.returncode == 0, done.stderr
    assert f"python3 benchmarks/{name}.py" in done.stdout


def read_results(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    assert "cores" in content["machine"]
    assert "torch" in content["versions"]
    assert content["date"]
    return content["metrics"]


def test_latency_with_one_and_two_threads(exported, run_script):
    models = [exported / "model.ncnn.param", exported / "model.onnx"]
    output = exported / "latency.json"
    done = run_script("benchmarks/latency.py", "--models", *models, "--runs", 3, "--output", output, cwd=exported)
    assert done.returncode == 0, done.stderr
    measured = read_results(output)
    assert list(measured) == ["model.ncnn.param", "model.onnx"]
    for by_threads in measured.values():
        assert list(by_threads) == ["1 threads", "2 threads"]
        for values in by_threads.values():
            low, high = values["quartiles"]
            assert 0 < low <= values["median"] <= high
            assert values["ratio"] > 0
    assert measured["model.ncnn.param"]["1 threads"]["ratio"] == 1


def test_frame_path_times_add_up(exported, run_script):
    write_image(exported / "image.jpg")
    output = exported / "frame.json"
    arguments = ("--weights", exported / "model.ncnn.param", "--img", exported / "image.jpg", "--repeats", 2)
    done = run_script("benchmarks/frame_path.py", *arguments, "--output", output, cwd=exported)
    assert done.returncode == 0, done.stderr
    measured = read_results(output)
    parts = {name: value for name, value in measured.items() if name != "share"}
    assert list(parts) == ["pre-processing", "network", "post-processing", "drawing"]
    assert measured["share"] == pytest.approx((sum(parts.values()) - parts["network"]) / parts["network"])


def test_evaluation_throughput_compares_both_speeds(exported, tmp_path, run_script):
    write_image(tmp_path / "image.jpg")
    (tmp_path / "val.txt").write_text("image.jpg\n", encoding="utf-8")
    data = write_data(tmp_path, val="val.txt")
    arguments = ("--data", data, "--weights", exported / "w.pth", "--repeats", 1)
    done = run_script("benchmarks/evaluation_throughput.py", *arguments)
    assert done.returncode == 0, done.stderr
    assert "1 images in batches" in done.stdout
    assert "end to end / alone" in done.stdout


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("latency", (), "--models, --reference or --others"),
        ("latency", ("--others", "gone"), "FastestDet.param: "),
        ("latency", ("--reference", "README.md"), "README.bin: "),
        ("latency", ("--models", "gone.onnx"), "gone.onnx: "),
        ("latency", ("--models", "a/m.onnx", "b/m.onnx"), "--models: expected files with different names, got m.onnx"),
        ("latency", ("--models", "gone.ncnn.param"), "gone.ncnn.param: "),
        (
            "frame_path",
            ("--weights", "modelzoo/mask-352.pth", "--img", "img"),
            "--weights modelzoo/mask-352.pth: expected a .ncnn.param file",
        ),
        ("startup", ("--data", "gone.data", "--weights", "w.pth", "--img", "a.jpg", "--repeats", 1), "gone.data"),
    ],
)
def test_bad_input_is_one_line(run_script, script, arguments, message):
    done = run_script(f"benchmarks/{script}.py", *arguments)
    assert done.returncode == (1 if script == "startup" else 2)
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert "this is a bug" not in line


def test_results_has_the_measured_values(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(results, "RESULTS", tmp_path / "RESULTS.md")

    def values(median):
        return {"median": median, "low": median - 1, "high": median + 1}

    measured = {
        "postprocess": {"original": {"milliseconds": values(30.0)}, "ours": {"milliseconds": values(5.0)}},
        "evaluate": {"original": {"seconds": values(6.0)}, "ours": {"seconds": values(2.0)}},
    }
    head = {"machine": "a machine", "date": "2026-01-02", "versions": {"torch": "2.0"}}
    (tmp_path / "against_original.json").write_text(json.dumps({**head, "metrics": measured}), encoding="utf-8")
    frame = {"network": 4.0, "drawing": 1.0, "share": 0.25}
    (tmp_path / "frame_path.json").write_text(json.dumps({**head, "metrics": frame}), encoding="utf-8")
    results.main(None)
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert (
        "| post-processing of 32 images, ms | 5.00 (4.00 to 6.00) | 30.00 (29.00 to 31.00) | 0.17, or 1 / 6.0 |" in text
    )
    assert "| evaluation, seconds | 2.00 (1.00 to 3.00) | 6.00 (5.00 to 7.00) | 0.33, or 1 / 3.0 |" in text
    assert "| drawing | 1.000 |" in text
    assert "as a share of its time | 0.25 |" in text
    assert "a machine; torch 2.0" in text
    assert "The network alone" not in text


def test_results_without_files_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path / "none")
    with pytest.raises(InputError, match=r"none: .*found none"):
        results.main(None)
