"""Several models side by side, from evaluation.py and from pytorch2onnx.py --evaluate."""

import re
import sys

import pytest

import evaluation
from tests.helpers.dataset_files import write_data, write_picture
from tests.helpers.random_detector import save_random_weights
from tests.scripts.test_pytorch2onnx import export
from utils import cli

HEADER = ["model", "runtime", "precision", "KB", "AP50", "AP", "ms,", "1", "thr.", "ms,", "2", "thr."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures with labels, weights, and what is exported with a table of all that was made."""
    folder = tmp_path_factory.mktemp("table")
    for number in range(4):
        write_picture(folder / f"{number}.png", 96, 64, seed=number)
        (folder / f"{number}.txt").write_text("0 0.5 0.5 0.4 0.6\n1 0.2 0.3 0.3 0.3\n")
    (folder / "val.txt").write_text("".join(f"{number}.png\n" for number in range(4)))
    data = write_data(folder, train="val.txt", val="val.txt")
    weights = save_random_weights(folder / "w.pth")
    result = export("--data", data, "--weights", weights, "--output", folder / "m.onnx", "--ncnn", "--evaluate")
    assert result.returncode == 0
    (folder / "said.txt").write_text(result.stdout)
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
    first = lines.index(HEADER)
    return {row[0]: row for row in lines[first + 1 :]}


def test_an_export_ends_with_the_table(folder):
    rows = rows_of((folder / "said.txt").read_text())
    assert list(rows) == ["w.pth", "m.onnx", "m.ncnn.param"]
    assert [" ".join(row[1:-5]) for row in rows.values()] == ["PyTorch FP32", "ONNX Runtime FP32", "NCNN FP16"]


def test_evaluation_gives_the_same_figures(folder, compare):
    status, output, errors = compare("--weights", folder / "w.pth", folder / "m.onnx", folder / "m.ncnn.param")
    assert (status, errors) == (0, "")
    assert f"4 images of {folder}/val.txt" in output
    rows, before = rows_of(output), rows_of((folder / "said.txt").read_text())
    for name, row in rows.items():
        assert row[-4:-2] == before[name][-4:-2]
        assert all(float(milliseconds) > 0 for milliseconds in row[-2:])
    assert rows["m.onnx"][-4:-2] == rows["w.pth"][-4:-2]
    assert float(rows["m.onnx"][-5]) == pytest.approx((folder / "m.onnx").stat().st_size / 1000, abs=0.6)
    pair = sum((folder / f"m.ncnn.{end}").stat().st_size for end in ("param", "bin"))
    assert float(rows["m.ncnn.param"][-5]) == pytest.approx(pair / 1000, abs=0.6)


def test_one_exported_model_is_measured_like_weights(folder, compare):
    figures = []
    for name in ("w.pth", "m.onnx"):
        status, output, errors = compare("--weights", folder / name, "--json", folder / "metrics.json")
        assert (status, errors) == (0, "")
        figures.append(re.search(r"^Precision:.*$", output, re.MULTILINE).group())
    assert figures[0] == figures[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--json", "x.json"), "--json, --save-detections and --plots: expected one weights file, got several"),
        (("--plots",), "--json, --save-detections and --plots: expected one weights file, got several"),
        (("gone.onnx",), "gone.onnx: expected an .onnx file"),
    ],
)
def test_what_does_not_go_with_several(folder, compare, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, errors = compare("--weights", folder / "w.pth", folder / "m.onnx", *options)
    assert status == 2
    assert message in errors
    assert list(tmp_path.iterdir()) == []


def test_a_model_with_thresholds_inside_cannot_be_measured(folder, compare):
    arguments = ("--data", folder / "small.data", "--weights", folder / "w.pth", "--output", folder / "e.onnx")
    assert export(*arguments, "--end2end").returncode == 0
    status, _, errors = compare("--weights", folder / "e.onnx")
    assert status == 2
    assert "e.onnx: expected conf 0.3 or more" in errors
