"""Darknet labels to COCO JSON."""

import re

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.helpers.annotation_files import read_json
from tests.helpers.dataset_files import write_data, write_image
from utils.dataset.coco_json import image_ids

SCRIPT = "tools/export_coco.py"


def test_pycocotools_reads_the_file(run_script, tmp_path, capsys):
    random = np.random.default_rng(0)
    for index in range(5):
        write_image(tmp_path / f"{index}.png", seed=index)
        rows = [(box % 2, *(0.3 + 0.4 * random.random(2)), *(0.1 + 0.4 * random.random(2))) for box in range(4)]
        lines = "".join(" ".join(map(str, row)) + "\n" for row in rows)
        (tmp_path / f"{index}.txt").write_text(lines, encoding="utf-8")
    (tmp_path / "val.txt").write_text("".join(f"{index}.png\n" for index in range(5)), encoding="utf-8")
    data = write_data(tmp_path, train=None, val="val.txt")
    result = run_script(SCRIPT, "--data", data, "--output", tmp_path / "truth.json")
    assert result.returncode == 0, result.stderr
    coco = COCO(tmp_path / "truth.json")
    assert len(coco.getAnnIds()) == 20
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["cat", "dog"]
    keys = ("image_id", "category_id", "bbox")
    results = [{**{key: entry[key] for key in keys}, "score": 0.9} for entry in coco.dataset["annotations"]]
    evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    capsys.readouterr()
    # Ground truth as detections gives an AP of 1.
    assert evaluation.stats[0] == pytest.approx(1)


def test_problems_are_listed(run_script, tmp_path):
    for index, name in enumerate(("a.png", "b.png", "c.png")):
        write_image(tmp_path / name, 40, 20, seed=index)
    (tmp_path / "d.png").write_text("not an image\n", encoding="utf-8")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n9 0.5 0.5 0.5 0.5\n1 0.25 0.5 0.5 1\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("", encoding="utf-8")
    (tmp_path / "x.names").write_text("cat\ndog\n", encoding="utf-8")
    result = run_script(SCRIPT, "--list", ".", "--names", "x.names", "--output", "x.json", cwd=tmp_path)
    assert result.returncode == 1
    assert "dropped: a.txt:2: " in result.stderr
    assert "dropped: d.png: " in result.stderr
    assert "2 of 4 images" in result.stderr  # without label file
    content = read_json(tmp_path / "x.json")
    assert [image["file_name"] for image in content["images"]] == ["a.png", "b.png", "c.png"]
    assert [(box["category_id"], box["bbox"]) for box in content["annotations"]] == [
        (1, [10, 5, 20, 10]),
        (2, [0, 0, 20, 20]),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "small.data", "--set", "train"), "small.data: .*train"),
        (("--list", "."), "--names"),
        (("--data", "small.data", "--names", "small.names"), "--names: "),
        (("--list", "none.txt", "--names", "small.names"), "none.txt: "),
        (("--list", "bad", "--names", "small.names"), "bad: none of its 1 images"),
    ],
)
def test_bad_input_is_one_line(arguments, message, run_script, tmp_path):
    write_data(tmp_path, train=None, val="val.txt")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/x.png").write_text("not an image\n", encoding="utf-8")
    result = run_script(SCRIPT, *arguments, "--output", "x.json", cwd=tmp_path)
    assert result.returncode == 2
    error = result.stderr.splitlines()[-1]
    assert error.startswith("error: ")
    assert re.search(message, error), error
    assert not (tmp_path / "x.json").exists()


def test_image_ids():
    assert image_ids(["x/000012.jpg", "7.png"]) == [12, 7]
    assert image_ids(["a/1.jpg", "b/1.jpg"]) == [1, 2]
    assert image_ids(["9.jpg", "b.jpg", "².jpg"]) == [1, 2, 3]
    assert image_ids([]) == []
