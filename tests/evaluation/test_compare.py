"""utils.evaluation.compare, called by evaluation.py and by pytorch2onnx.py --evaluate."""

import itertools
import re
import sys

import pytest

import evaluation
from tests.helpers.dataset_files import write_data, write_image
from tests.helpers.random_detector import save_random_weights
from tests.scripts.test_pytorch2onnx import export
from utils import cli

pytestmark = pytest.mark.slow

HEADER = ["model", "runtime", "precision", "KB", "AP50", "AP", "ms,", "1", "thr.", "ms,", "2", "thr."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images, labels, weights, exported models, and export.txt with the printed table."""
    folder = tmp_path_factory.mktemp("table")
    for index in range(4):
        write_image(folder / f"{index}.png", 96, 64, seed=index)
        (folder / f"{index}.txt").write_text("0 0.5 0.5 0.4 0.6\n1 0.2 0.3 0.3 0.3\n")
    (folder / "val.txt").write_text("".join(f"{index}.png\n" for index in range(4)))
    data = write_data(folder, train="val.txt", val="val.txt")
    weights = save_random_weights(folder / "w.pth")
    result = export("--data", data, "--weights", weights, "--output", folder / "m.onnx", "--ncnn", "--evaluate")
    assert result.returncode == 0
    (folder / "export.txt").write_text(result.stdout)
    return folder


@pytest.fixture
def compare(folder, monkeypatch, capsys):
    """Run evaluation.py with several weights files: (exit status, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["evaluation.py", "--data", f"{folder}/small.data", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.run(evaluation.build_parser(), evaluation.main)
        return (stop.value.code, *capsys.readouterr())

    return run


def rows_of(text):
    lines = [line.split() for line in text.splitlines()]
    rows = itertools.takewhile(len, lines[lines.index(HEADER) + 1 :])  # a note may follow after a blank line
    return {row[0]: row for row in rows}


def test_export_prints_the_table(folder):
    rows = rows_of((folder / "export.txt").read_text())
    assert list(rows) == ["w.pth", "m.onnx", "m.ncnn.param"]
    assert [" ".join(row[1:-5]) for row in rows.values()] == ["PyTorch FP32", "ONNX Runtime FP32", "NCNN FP16"]


def test_evaluation_prints_the_same_metrics(folder, compare):
    status, output, errors = compare("--weights", folder / "w.pth", folder / "m.onnx", folder / "m.ncnn.param")
    assert (status, errors) == (0, "")
    assert f"4 images of {folder}/val.txt" in output
    rows, exported = rows_of(output), rows_of((folder / "export.txt").read_text())
    for name, row in rows.items():
        assert row[-4:-2] == exported[name][-4:-2]
        assert all(float(milliseconds) > 0 for milliseconds in row[-2:])
    assert rows["m.onnx"][-4:-2] == rows["w.pth"][-4:-2]
    assert float(rows["m.onnx"][-5]) == pytest.approx((folder / "m.onnx").stat().st_size / 1000, abs=0.6)
    size = sum((folder / f"m.ncnn.{end}").stat().st_size for end in ("param", "bin"))
    assert float(rows["m.ncnn.param"][-5]) == pytest.approx(size / 1000, abs=0.6)


def test_an_exported_model_has_the_metrics_of_its_weights(folder, compare):
    metrics = []
    for name in ("w.pth", "m.onnx"):
        status, output, errors = compare("--weights", folder / name, "--json", folder / "metrics.json")
        assert status == 0
        assert ("w.pth: " in errors) == (name == "w.pth")  # random weights do not fit the labels
        metrics.append(re.search(r"^Precision:.*$", output, re.MULTILINE).group())
    assert metrics[0] == metrics[1]


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        (("--json", "x.json"), "--json.*: expected one weights file, got several"),
        (("--plots",), "--plots: expected one weights file, got several"),
        (("--device", "cuda"), "--device cuda: expected auto or cpu"),
        (("gone.onnx",), r"gone\.onnx: expected "),
    ],
)
def test_invalid_options_with_several_models(folder, compare, options, pattern, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, errors = compare("--weights", folder / "w.pth", folder / "m.onnx", *options)
    assert status == 2
    assert re.search(pattern, errors)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def end2end(folder):
    """An exported model that includes NMS."""
    arguments = ("--data", folder / "small.data", "--weights", folder / "w.pth", "--output", folder / "e.onnx")
    assert export(*arguments, "--end2end").returncode == 0
    return folder / "e.onnx"


def test_an_end2end_model_is_compared_at_its_own_thresholds(folder, compare, end2end):
    status, output, errors = compare("--weights", folder / "m.onnx", end2end, "--conf", 0.3)
    assert (status, errors) == (0, "")
    rows = rows_of(output)
    assert rows["e.onnx"][-4:-2] == rows["m.onnx"][-4:-2]


def test_an_end2end_model_cannot_be_evaluated(folder, compare, end2end):
    status, _, errors = compare("--weights", end2end)
    assert status == 2
    assert "e.onnx" in errors
    assert "conf 0.3" in errors
