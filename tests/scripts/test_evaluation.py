"""evaluation.py: golden metrics, options, label files, paths, output files, bad inputs."""

import contextlib
import io
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import evaluation
from tests.helpers.dataset_files import write_data, write_image
from tests.helpers.random_detector import add_description, save_random_weights
from utils import cli

pytestmark = pytest.mark.slow

PLOTS = {"precision_recall.png", "f1.png", "confusion_matrix.png", "worst.jpg"}
SIZES = ((64, 48), (96, 64), (40, 80), (120, 90), (33, 31), (200, 50), (64, 64))


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


class Measured(NamedTuple):
    """A data set, the output of one run on it, and the files that the run wrote."""

    folder: Path
    out: str
    metrics: dict
    detections: list


@pytest.fixture
def evaluate(capsys, monkeypatch):
    """Run evaluation.py in this process, which is faster than a new one; returns an Outcome."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["evaluation.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as raised:
            cli.run(evaluation.build_parser(), evaluation.main)
        return Outcome(raised.value.code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def measured(tmp_path_factory, run_script):
    """Seven images, labeled with a part of what random weights detect in them, and a run of evaluation.py."""
    folder = tmp_path_factory.mktemp("measured")
    images = [folder / "val" / f"{index + 5:03}.png" for index in range(len(SIZES))]
    for index, (path, (width, height)) in enumerate(zip(images, SIZES, strict=True)):
        write_image(path, width, height, seed=index)
        path.with_suffix(".txt").write_text("")
    (folder / "val.txt").write_text("".join(f"val/{path.name}\n" for path in images))
    options = (
        *("--data", write_data(folder, train=None, val="val.txt"), "--weights", save_random_weights(folder / "w.pth")),
        *("--save-detections", folder / "detections.json"),
    )
    first = run_script("evaluation.py", *options, "--conf", 0.6)
    assert first.returncode == 0, first.stderr
    assert re.fullmatch(rf"warning: {re.escape(str(folder))}/val\.txt: no image has labels.*\n", first.stderr)
    assert "Precision:nan Recall:nan AP:nan F1:nan" in first.stdout
    label(folder, json.loads((folder / "detections.json").read_text()))

    result = run_script("evaluation.py", *options, "--json", folder / "metrics.json", "--plots", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    metrics, detections = (json.loads((folder / name).read_text()) for name in ("metrics.json", "detections.json"))
    return Measured(folder, result.stdout, metrics, detections)


def label(folder, results):
    """Label the images with most detections, clipped to the image."""
    images = sorted((folder / "val").glob("*.png"))
    for path, size in zip(images, map(np.array, SIZES), strict=True):
        lines = []
        for result in results:
            corner, extent = np.split(np.array(result["bbox"]), 2)
            low, high = np.clip((corner, corner + extent), 0, size)
            # If too little of the box is inside, no detection would match the label.
            if result["image_id"] == int(path.stem) and (high - low > 3).all() and np.prod((high - low) / extent) > 0.4:
                box = (*((low + high) / 2 / size), *((high - low) / size))
                lines.append(f"{result['category_id'] - 1} " + " ".join(f"{value:.6f}" for value in box))
        path.with_suffix(".txt").write_text("\n".join(line for index, line in enumerate(lines) if index % 4))


@pytest.fixture
def data_set(measured, tmp_path):
    """A copy of the data set that a test can modify."""
    folder = tmp_path / "set"
    shutil.copytree(measured.folder, folder, ignore=shutil.ignore_patterns("*.cache", "*.json", "runs"))
    write_data(folder, train=None, val="val.txt")
    return folder


def options_of(folder):
    return "--data", folder / "small.data", "--weights", folder / "w.pth"


def metrics_of(evaluate, folder, *options):
    """Content of the JSON file of a run without warnings."""
    path = folder / "metrics_of.json"
    outcome = evaluate(*options_of(folder), "--json", path, *options)
    assert (outcome.status, outcome.err) == (0, "")
    return json.loads(path.read_text())


def detections_of(evaluate, folder, *options):
    """{image id: rows (category id, x, y, w, h, score), by descending score} of a run without warnings."""
    path = folder / "detections_of.json"
    outcome = evaluate(*options_of(folder), "--save-detections", path, *options)
    assert (outcome.status, outcome.err) == (0, "")
    return by_image(json.loads(path.read_text()))


def by_image(results):
    rows = {}
    for result in results:
        rows.setdefault(result["image_id"], []).append((result["category_id"], *result["bbox"], result["score"]))
    return rows


def pycocotools_ap(annotations, results):
    """AP and AP50 by pycocotools, from two files."""
    with contextlib.redirect_stdout(io.StringIO()):
        labeled = COCO(annotations)
        evaluator = COCOeval(labeled, labeled.loadRes(str(results)), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats[:2].tolist()


# Printed output and files.


def test_golden_metrics_of_the_released_checkpoint(shared, repo, evaluate, tmp_path):
    images = shared / "coco-val128"
    names = (images / "val.txt").read_text(encoding="utf-8").split("\n")
    (tmp_path / "val.txt").write_text("\n".join(str(images / name) for name in names if name), encoding="utf-8")
    data = tmp_path / "coco.data"
    lines = (repo / "data" / "coco.data").read_text(encoding="utf-8").splitlines()
    lists = {"train": None, "val": tmp_path / "val.txt", "names": repo / "data" / "coco.names"}
    lines = [line for line in lines if line.partition("=")[0].strip() not in lists]
    data.write_text("\n".join([*lines, *(f"{key}={path}" for key, path in lists.items())]), encoding="utf-8")
    weights = shared / "reference" / "coco2017-0.241078ap-model.pth"

    outcome = evaluate("--data", data, "--weights", weights, "--json", tmp_path / "metrics.json")
    assert outcome.status == 0, outcome.err
    printed = re.search(r"^Precision:(\S+) Recall:(\S+) AP:(\S+) F1:(\S+)$", outcome.out, re.MULTILINE)
    golden = (0.511931, 0.289160, 0.348983, 0.342372)
    assert tuple(map(float, printed.groups())) == pytest.approx(golden, abs=0.002)
    for name, value in {"AP": 0.1861, "AP50": 0.3364, "AP75": 0.1645}.items():
        printed = re.search(rf"^{name} +(\S+) ", outcome.out, re.MULTILINE)
        assert float(printed[1]) == pytest.approx(value, abs=0.002)
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert tuple(metrics["original"].values()) == pytest.approx(golden, abs=0.002)
    assert len(metrics["classes"]) == 80


def test_metrics_and_written_files_are_printed(measured):
    original, coco = measured.metrics["original"], measured.metrics["coco"]
    assert (
        f"Precision:{original['precision']:.6f} Recall:{original['recall']:.6f} "
        f"AP:{original['ap']:.6f} F1:{original['f1']:.6f}\n" in measured.out
    )
    assert len(coco) == 12
    for name, value in coco.items():
        shown = "–" if value is None else f"{value:.4f}"
        assert re.search(rf"^{name} +{shown}  \w", measured.out, re.MULTILINE)
    assert f"data     7 images, {measured.metrics['all']['labels']} objects: " in measured.out
    for row in [*measured.metrics["classes"], measured.metrics["all"]]:
        values = (f"{row['images']}", f"{row['labels']}", *(f"{row[key]:.4f}" for key in ("ap", "ap50", "f1")))
        assert re.search(rf"^{row['name']} +{' +'.join(values)} +{row['threshold']:.3f}$", measured.out, re.MULTILINE)
    written = re.findall(r"^wrote (.*)$", measured.out, re.MULTILINE)
    plots = {str(Path("runs", "eval", "small", name)) for name in PLOTS}
    assert set(written) == {str(measured.folder / "metrics.json"), str(measured.folder / "detections.json"), *plots}
    assert "\r" not in measured.out  # no progress bar without a terminal


def test_metrics_of_random_weights_are_between_0_and_1(measured):
    # Other tests compare these metrics. They could not detect a difference if all were 0 or 1.
    assert all(0.05 < value < 0.95 for value in measured.metrics["original"].values())
    assert 0.05 < measured.metrics["coco"]["AP"] < 0.95
    assert len(measured.detections) > 200


def test_pycocotools_computes_the_same_ap_from_saved_detections_and_exported_labels(measured, run_script, tmp_path):
    data = measured.folder / "small.data"
    result = run_script("tools/export_coco.py", "--data", data, "--output", tmp_path / "truth.json")
    assert result.returncode == 0, result.stderr
    ap, ap50 = pycocotools_ap(tmp_path / "truth.json", measured.folder / "detections.json")
    assert ap == pytest.approx(measured.metrics["coco"]["AP"], abs=1e-9)
    assert ap50 == pytest.approx(measured.metrics["coco"]["AP50"], abs=1e-9)


def test_saved_detections_are_in_pixels_of_the_image(measured):
    ids = {int(path.stem) for path in (measured.folder / "val").glob("*.png")}
    assert {result["image_id"] for result in measured.detections} == ids
    assert {result["category_id"] for result in measured.detections} == {1, 2}
    # Box centers are at most one cell outside the image.
    sizes = dict(zip(sorted(ids), SIZES, strict=True))
    for result in measured.detections:
        (x, y, w, h), (width, height) = result["bbox"], sizes[result["image_id"]]
        assert -width / 3 <= x + w / 2 <= width * 4 / 3
        assert -height / 2 <= y + h / 2 <= height * 3 / 2
        assert 0.01 < result["score"] <= 1


def test_json_contains_the_settings(measured):
    made = measured.metrics["made_with"]
    expected = {"images": 7, "width": 96, "height": 64, "conf": 0.01, "iou": 0.4, "max_det": 300, "batch_size": 16}
    assert {name: made[name] for name in expected} == expected
    assert made["data"] == str(measured.folder / "small.data")
    assert made["weights"] == str(measured.folder / "w.pth")
    assert re.fullmatch("[0-9a-f]{64}", made["weights_sha256"])
    assert {"python", "torch", "numpy", "cv2", "pycocotools"} < set(made["versions"])


def test_plots_are_images_and_never_overwritten(measured, evaluate, data_set, monkeypatch):
    for name in PLOTS:
        with Image.open(measured.folder / "runs" / "eval" / "small" / name) as plot:
            assert min(plot.size) > 500
            assert len(plot.convert("RGB").getcolors(1 << 24)) > 20
    monkeypatch.chdir(data_set)
    for folder in ("small", "small-2"):
        outcome = evaluate(*options_of(data_set), "--plots", "--output", "plots here")
        assert (outcome.status, outcome.err) == (0, "")
        assert {path.name for path in Path("plots here", folder).iterdir()} == PLOTS


def test_detections_are_reproducible(measured, evaluate, data_set):
    assert detections_of(evaluate, data_set) == by_image(measured.detections)


def test_without_options_nothing_is_written(evaluate, data_set, monkeypatch):
    monkeypatch.chdir(data_set)
    before = {path for path in data_set.rglob("*") if path.name != "val.txt.cache"}
    outcome = evaluate(*options_of(data_set))
    assert (outcome.status, outcome.err) == (0, "")
    assert "wrote" not in outcome.out
    assert {path for path in data_set.rglob("*") if path.name != "val.txt.cache"} == before


def test_help_imports_no_heavy_package(run_script):
    result = run_script("evaluation.py", "--help", env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"})
    assert result.returncode == 0
    assert "--save-detections FILE" in result.stdout
    assert "argparse" in result.stderr
    assert not re.search(r"\b(torch|numpy|cv2|pycocotools)\b", result.stderr)


# Options.


@pytest.mark.parametrize("options", [("--batch-size", 1), ("--batch-size", 3), ("--workers", 0), ("--workers", 5)])
def test_batch_size_and_workers_do_not_change_the_result(options, measured, evaluate, data_set):
    threads = torch.get_num_threads()
    metrics = metrics_of(evaluate, data_set, "--save-detections", data_set / "found.json", *options)
    for key in ("original", "coco"):
        assert metrics[key] == pytest.approx(measured.metrics[key], abs=1e-4)
    rows = by_image(json.loads((data_set / "found.json").read_text()))
    expected = by_image(measured.detections)
    assert rows.keys() == expected.keys()
    for image_id, boxes in expected.items():
        np.testing.assert_allclose(rows[image_id], boxes, atol=0.01)
    assert torch.get_num_threads() == threads


def test_conf_removes_detections_with_lower_scores(measured, evaluate, data_set):
    rows = detections_of(evaluate, data_set, "--conf", 0.8)
    expected = by_image(result for result in measured.detections if result["score"] > 0.8)
    assert rows == expected
    assert len(expected) == len(SIZES)
    metrics = metrics_of(evaluate, data_set, "--conf", 0.8)
    assert metrics["coco"]["AP"] < measured.metrics["coco"]["AP"]
    assert metrics["made_with"]["conf"] == 0.8


def test_iou_limits_the_overlap_of_boxes_of_a_class(measured, evaluate, data_set):
    few, many = (detections_of(evaluate, data_set, "--iou", iou) for iou in (0, 0.95))
    default = by_image(measured.detections)
    for image_id, rows in default.items():
        assert len(few[image_id]) < len(rows) < len(many[image_id])
        # The best box of each class is never removed.
        for category_id in (1, 2):
            best = next(row for row in rows if row[0] == category_id)
            assert best in few[image_id]
            assert best in many[image_id]


def test_max_det_keeps_the_best_detections_per_image(measured, evaluate, data_set):
    rows = detections_of(evaluate, data_set, "--max-det", 3)
    assert rows == {image_id: boxes[:3] for image_id, boxes in by_image(measured.detections).items()}
    metrics = metrics_of(evaluate, data_set, "--max-det", 3)
    assert metrics["coco"]["AR_max"] < measured.metrics["coco"]["AR_max"]
    assert metrics["original"]["recall"] < measured.metrics["original"]["recall"]


# Label files, images and paths.


def test_images_without_label_file_have_no_objects_and_cause_one_warning(measured, evaluate, data_set):
    emptied = ["006.txt", "009.txt"]
    for name in emptied:
        (data_set / "val" / name).write_text(" \n\n")
    empty = metrics_of(evaluate, data_set)
    assert empty["made_with"]["images"] == empty["all"]["images"] == 7
    assert empty["all"]["labels"] < measured.metrics["all"]["labels"]
    for name in emptied:
        (data_set / "val" / name).unlink()
    outcome = evaluate(*options_of(data_set), "--json", data_set / "missing.json")
    assert outcome.status == 0
    assert re.fullmatch(r"warning: .*val\.txt: 2 of 7 images.* label file.*\n", outcome.err)
    missing = json.loads((data_set / "missing.json").read_text())
    assert (missing["original"], missing["coco"]) == (empty["original"], empty["coco"])


def test_an_image_without_objects_lowers_precision(measured, evaluate, data_set):
    # All detections in it are false positives. Without the image, precision is higher and recall is the same.
    (data_set / "val" / "007.txt").write_text("")
    with_image = metrics_of(evaluate, data_set)
    lines = (data_set / "val.txt").read_text().splitlines()
    (data_set / "val.txt").write_text("\n".join(line for line in lines if "007" not in line))
    without_image = metrics_of(evaluate, data_set)
    assert with_image["original"]["recall"] == pytest.approx(without_image["original"]["recall"])
    assert with_image["original"]["precision"] < without_image["original"]["precision"]
    assert with_image["coco"]["AP"] < without_image["coco"]["AP"]


@pytest.mark.parametrize(
    ("line", "pattern"),
    [
        ("0 0.5 0.5 0.2", "expected .*, got 4 values"),
        ("2 0.5 0.5 0.2 0.2", "expected class .*, got 2"),
        ("-1 0.5 0.5 0.2 0.2", "expected class .*, got -1"),
        ("cat 0.5 0.5 0.2 0.2", "expected .*, got 'cat'"),
        ("0 0.5 nan 0.2 0.2", "expected .*, got 'nan'"),
        ("0 0.5 0.5 0 0.2", "expected w and h .*, got 0 and 0.2"),
        ("0 32 24 10 10", "expected a box inside the image"),
    ],
)
def test_malformed_label_line(line, pattern, evaluate, data_set):
    (data_set / "val" / "008.txt").write_text(f"1 0.5 0.5 0.2 0.2\n\n{line}\n")
    outcome = evaluate(*options_of(data_set))
    check_error(outcome, rf"SET/val/008\.txt:3: {pattern}", data_set)


def test_unusual_file_names(measured, run_script, tmp_path):
    folder = tmp_path / "v1.2 größe 数据"
    names = {
        "005": "a b.c/005.PNG",
        "006": "Ärger/006.Png",
        "007": "images/x.y/007.png",
        **{f"{number:03}": f"{number:03}.png" for number in range(8, 12)},
    }
    for stem, name in names.items():
        target = folder / name
        label_file = target.with_suffix(".txt") if stem != "007" else folder / "labels" / "x.y" / "007.txt"
        for part, suffix in ((target, ".png"), (label_file, ".txt")):
            part.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(measured.folder / "val" / f"{stem}{suffix}", part)
    (folder / "val líst.txt").write_text("\ufeff" + "\r\n".join(names.values()), encoding="utf-8")
    data = write_data(folder, names=("Käse", "猫"), train=None, val="val líst.txt")
    weights = shutil.copy(measured.folder / "w.pth", folder / "gewicht ü.pth")
    results = folder / "ergebnis.ü" / "m 1.json"
    # Characters that the terminal cannot show must not fail the run.
    result = run_script(
        *("evaluation.py", "--data", data, "--weights", weights, "--json", results),
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (result.returncode, result.stderr) == (0, "")
    metrics = json.loads(results.read_text(encoding="utf-8"))
    assert metrics["original"] == measured.metrics["original"]
    assert metrics["coco"] == measured.metrics["coco"]
    assert [row["name"] for row in metrics["classes"]] == ["Käse", "猫"]


def test_a_list_relative_to_the_data_file_works_from_any_folder(evaluate, data_set, tmp_path, monkeypatch):
    text = (data_set / "small.data").read_text()
    (data_set / "small.data").write_text(text.replace(f"{data_set}/", ""))
    monkeypatch.chdir(tmp_path)
    outcome = evaluate("--data", "set/small.data", "--weights", "set/w.pth")
    assert (outcome.status, outcome.err) == (0, "")
    assert "data     7 images" in outcome.out


# Bad inputs: a change that breaks the data set, and the error message.


def _replace(name, old, new):
    def change(folder):
        text = (folder / name).read_text()
        assert re.search(old, text, re.MULTILINE)
        (folder / name).write_text(re.sub(old, str(new), text, flags=re.MULTILINE))

    return change


def _write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def _remove(name):
    return lambda folder: (folder / name).unlink()


def _cut(folder):
    with Image.open(folder / "val" / "008.png") as image:
        image.convert("RGB").save(folder / "val" / "008.jpg")
    content = (folder / "val" / "008.jpg").read_bytes()
    (folder / "val" / "008.jpg").write_bytes(content[: len(content) * 2 // 3])
    _replace("val.txt", "008.png", "008.jpg")(folder)


def _other_classes(folder):
    save_random_weights(folder / "w.pth", classes=5)


def _pickled_model(folder):
    torch.save(Path("not tensors"), folder / "w.pth")


BAD_INPUTS = {
    "no .data file": (_remove("small.data"), r"SET/small\.data: .*No such file"),
    ".data file is not text": (_write("small.data", b"\xff\xfe\x00"), r"SET/small\.data: expected UTF-8.*0xff"),
    "width": (
        _replace("small.data", "width=96", "width=100"),
        r"SET/small\.data:\d+: width: expected a multiple of 32",
    ),
    "no names": (_remove("small.names"), r"SET/small\.data:\d+: names: expected a file"),
    "val None": (_replace("small.data", "^val=.*", "val=None"), r"SET/small\.data: val: expected a list of images"),
    "no val key": (_replace("small.data", "^val=.*", ""), r"SET/small\.data: missing key 'val'"),
    "no val list": (_remove("val.txt"), r"SET/val\.txt: expected a list of images"),
    "empty val list": (_write("val.txt", b"\n# nothing\n"), r"SET/val\.txt: expected "),
    "val list of labels": (_replace("val.txt", "008.png", "008.txt"), r"SET/val\.txt:4: expected .*image"),
    "no image": (_remove("val/008.png"), r"SET/val\.txt:4: expected an image.*SET/val/008\.png"),
    "image is text": (_write("val/008.png", b"not an image"), r"SET/val/008\.png: expected an image"),
    "image is empty": (_write("val/008.png", b""), r"SET/val/008\.png: expected an image"),
    "image cut short": (_cut, r"SET/val/008\.jpg: expected an image.*JPEG"),
    "label file is not text": (_write("val/008.txt", b"0 0.5 \xe4"), r"SET/val/008\.txt: expected UTF-8 text"),
    "no weights": (_remove("w.pth"), r"SET/w\.pth: expected .*not exist"),
    "empty weights": (_write("w.pth", b""), r"SET/w\.pth: expected .*empty file"),
    "weights are text": (_write("w.pth", b"W" * 999), r"SET/w\.pth: expected "),
    "other classes": (_other_classes, r"SET/w\.pth: .*5.*SET/small\.data.*2"),
    "pickled objects": (_pickled_model, r"SET/w\.pth: .*Python objects"),
}


def check_error(outcome, pattern, folder):
    """Exit status 2 and one line with the error."""
    assert outcome.status == 2
    assert outcome.err.count("\n") == 1
    assert re.match(f"error: {pattern}".replace("SET", re.escape(str(folder))), outcome.err), outcome.err


@pytest.mark.parametrize("case", BAD_INPUTS)
@pytest.mark.parametrize("workers", [0, 2])
def test_bad_input(case, workers, evaluate, data_set):
    change, pattern = BAD_INPUTS[case]
    change(data_set)
    outcome = evaluate(*options_of(data_set), "--workers", workers, "--json", data_set / "metrics.json")
    check_error(outcome, pattern, data_set)
    assert not (data_set / "metrics.json").exists()


def with_other_anchors(folder):
    """Make all anchors of a .data file a quarter as large."""
    path = folder / "small.data"
    text = path.read_text(encoding="utf-8")
    anchors = re.search(r"anchors=(.*)", text)[1]
    path.write_text(text.replace(anchors, ",".join(f"{float(side) / 4:g}" for side in anchors.split(","))))


def test_weights_without_description_and_other_anchors_cause_a_warning(evaluate, data_set):
    with_other_anchors(data_set)
    outcome = evaluate(*options_of(data_set))
    assert outcome.status == 0
    assert re.search(r"^warning: .*w\.pth: .*anchors.*small\.data", outcome.err)


def test_described_weights_use_their_own_anchors(evaluate, data_set):
    add_description(data_set / "w.pth", data_set / "small.data")
    before, path = detections_of(evaluate, data_set), data_set / "after.json"
    with_other_anchors(data_set)
    after = evaluate(*options_of(data_set), "--save-detections", path)
    assert after.status == 0
    assert by_image(json.loads(path.read_text())) == before
    assert re.fullmatch(r"warning: .*w\.pth: .*anchors .*small\.data.*\n", after.err)


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        (("--json", "val"), "val: expected a file"),
        (("--json", "val.txt/m.json"), r"val\.txt/m\.json: .*val\.txt"),
        (("--save-detections", "val"), "val: expected a file"),
        (("--save-detections", "val.txt/m.json"), r"val\.txt/m\.json: .*val\.txt"),
        (("--save-detections", "x.json", "--json", "./x.json"), "--json and --save-detections: expected two files"),
        (("--plots", "--output", "val.txt"), "val.txt"),
        (("--device", "gpu"), "--device gpu: expected "),
        (("--device", "cuda:99"), "--device cuda:99: expected "),
    ],
)
def test_bad_output_or_device_fails_before_the_evaluation(options, pattern, evaluate, data_set, monkeypatch):
    monkeypatch.chdir(data_set)
    outcome = evaluate(*options_of(data_set), *options)
    check_error(outcome, f"({pattern})", data_set)
    assert outcome.out == ""
    assert not list(data_set.glob("*.json"))


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        (("--conf", "1.5"), "argument --conf: .*'1.5'"),
        (("--iou", "-0.1"), "argument --iou: .*'-0.1'"),
        (("--iou", "nan"), "argument --iou: .*'nan'"),
        (("--batch-size", "0"), "argument --batch-size: .*'0'"),
        (("--max-det", "2.5"), "argument --max-det: .*'2.5'"),
        (("--workers", "-1"), "argument --workers: .*'-1'"),
        (("--batchsize", "8"), "unrecognized arguments: --batchsize 8"),
        (("--json",), "argument --json: expected one argument"),
    ],
)
def test_bad_options(options, pattern, evaluate):
    outcome = evaluate("--data", "a.data", "--weights", "w.pth", *options)
    assert outcome.status == 2
    assert re.fullmatch(f"evaluation.py: error: {pattern}", outcome.err.splitlines()[-1])


@pytest.mark.parametrize("given", ["--data", "--weights"])
def test_data_and_weights_are_required(given, evaluate):
    outcome = evaluate(given, "x")
    (missing,) = {"--data", "--weights"} - {given}
    assert outcome.status == 2
    assert outcome.err.endswith(f"error: the following arguments are required: {missing}\n")


def test_bad_input_in_a_separate_process(run_script, data_set):
    _cut(data_set)
    result = run_script("evaluation.py", *options_of(data_set))
    check_error(Outcome(result.returncode, result.stdout, result.stderr), BAD_INPUTS["image cut short"][1], data_set)
