"""COCO JSON and VOC XML to darknet labels, and back to COCO JSON."""

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.annotation_files import (
    CATEGORIES,
    NAMES,
    assert_same_boxes,
    boxes_by_name,
    read_json,
    write_coco,
    write_voc,
)
from tests.helpers.dataset_files import write_image
from utils.anchors import box_sizes, cluster
from utils.config import read_config
from utils.dataset.index import load_index
from utils.dataset.labels import find_labels
from utils.dataset.lists import list_images

pytestmark = pytest.mark.slow

SCRIPT = "tools/import_dataset.py"


@pytest.mark.parametrize("place", ["link", "copy", "in-place"])
def test_coco_round_trip(place, run_script, tmp_path):
    """Category ids with gaps, unusual names, an image without boxes; from a different working directory."""
    _, content = write_coco(tmp_path)
    result = run_script(SCRIPT, "all.json", "--output", "out", "--place", place, "--split", 1, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "next: python3 tools/check_dataset.py --data out" in result.stdout
    assert "train.py --data" not in result.stdout  # training needs a val list
    config = read_config(tmp_path / "out/out.data")
    assert config.class_names == ("traffic light", "猫", "dog")
    assert config.val is None
    images = list_images(config.train)
    assert [os.path.islink(image) for image in images] == [place == "link"] * len(NAMES)
    assert None not in find_labels(images).files
    index = load_index(config.train, classes=3)
    assert (len(index), index.missing_labels) == (len(NAMES), 0)
    sizes = box_sizes(index.labels, 352, 352)
    assert np.abs(np.array(config.anchors).reshape(-1, 2) - cluster(sizes, 6)).max() < 0.02

    root = tmp_path / ("images" if place == "in-place" else "out/images/train")
    arguments = ("--data", "out/out.data", "--set", "train", "--root", root, "--output", "back.json")
    result = run_script("tools/export_coco.py", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert_same_boxes(boxes_by_name(read_json(tmp_path / "back.json")), boxes_by_name(content))


def test_round_trip_of_real_images(run_script, shared, tmp_path):
    source = shared / "coco-val128"
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    result = run_script(
        *("tools/export_coco.py", "--list", source / "val.txt", "--names", source / "coco.names"),
        *("--root", source / "images", "--output", first),
    )
    assert result.returncode == 0, result.stderr
    result = run_script(
        *(SCRIPT, first, "--images", source / "images", "--output", tmp_path / "out", "--split", 0.75, "--seed", 5),
    )
    assert result.returncode == 0, result.stderr
    config = read_config(tmp_path / "out/out.data")
    parts = {}
    for key, count in (("train", 96), ("val", 32)):
        result = run_script(
            *("tools/export_coco.py", "--data", config.path, "--set", key),
            *("--root", tmp_path / "out/images" / key, "--output", second),
        )
        assert result.returncode == 0, result.stderr
        content = read_json(second)
        assert len(content["images"]) == count
        # The names of COCO's images are their ids.
        assert all(int(Path(image["file_name"]).stem) == image["id"] for image in content["images"])
        parts |= boxes_by_name(content)
    assert len(read_json(first)["annotations"]) == 898
    assert_same_boxes(parts, boxes_by_name(read_json(first)))


def test_chosen_classes_and_two_sets(run_script, tmp_path):
    _, content = write_coco(tmp_path / "train")
    write_coco(tmp_path / "val", NAMES[:3])
    (tmp_path / "mine.names").write_text("dog\n猫\n", encoding="utf-8")
    result = run_script(
        *(SCRIPT, "train/all.json", "--val", "val/all.json", "--val-images", "val/images", "--output", "out"),
        *("--name", "pets", "--names", "mine.names", "--width", 640, "--height", 320),
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert "boxes of class 'traffic light'" in result.stdout
    config = read_config(tmp_path / "out/pets.data")
    assert (config.model_name, config.class_names, config.width, config.height) == ("pets", ("dog", "猫"), 640, 320)
    train, val = (load_index(path, classes=2) for path in (config.train, config.val))
    assert (len(train), len(val)) == (len(NAMES), 3)
    expected = Counter({category["id"]: 0 for category in CATEGORIES})
    expected.update(annotation["category_id"] for annotation in content["annotations"])
    counts = Counter(np.concatenate(train.labels)[:, 0].astype(int).tolist())
    assert counts == {0: expected[90], 1: expected[13]}


def test_few_boxes_get_the_anchors_of_coco(run_script, tmp_path):
    write_coco(tmp_path, NAMES[:2], boxes=2)
    result = run_script(SCRIPT, "all.json", "--output", "out", cwd=tmp_path)
    assert result.returncode == 0
    assert "anchors of COCO" in result.stderr
    assert read_config(tmp_path / "out/out.data").anchors[0][0] == (12.64, 19.39)


def test_a_box_outside_is_cut_and_listed(run_script, tmp_path):
    path, content = write_coco(tmp_path)
    content["annotations"][0]["bbox"] = [-5, 2, 20, 10]
    path.write_text(json.dumps(content), encoding="utf-8")
    result = run_script(SCRIPT, "all.json", "--output", "out", cwd=tmp_path)
    assert result.returncode == 0
    (line,) = (tmp_path / "out/problems.txt").read_text(encoding="utf-8").splitlines()
    assert line.startswith("changed: all.json: annotation id 0: box -5 2 15 12 ")
    assert f"warning: {line}\n" in result.stderr


def test_files_of_the_user_are_not_overwritten(run_script, tmp_path):
    write_coco(tmp_path)
    label = tmp_path / "labels/plain.txt"
    label.parent.mkdir()
    label.write_text("mine\n", encoding="utf-8")
    result = run_script(SCRIPT, "all.json", "--output", "out", "--place", "in-place", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {label}: ")
    assert label.read_text(encoding="utf-8") == "mine\n"
    assert len(list(tmp_path.rglob("*.txt"))) == 1


@pytest.mark.parametrize("linked", ["labels", "labels/plain.txt"])
def test_labels_are_not_written_through_links(run_script, tmp_path, linked):
    folder, link, target = tmp_path / "photos", tmp_path / "photos" / linked, tmp_path / "elsewhere"
    folder.mkdir()
    write_coco(folder)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(target)
    result = run_script(SCRIPT, "all.json", "--output", "../out", "--place", "in-place", cwd=folder)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {folder / linked}")
    assert not target.exists()
    if linked == "labels":
        target.mkdir()
        result = run_script(SCRIPT, "all.json", "--output", "../out", "--place", "in-place", cwd=folder)
        assert result.returncode == 2
        assert not list(target.iterdir())


def test_a_linked_folder_of_images_is_written_next_to_the_link(run_script, tmp_path):
    write_coco(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    (tmp_path / "photos/images").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "all.json").rename(tmp_path / "photos/all.json")
    result = run_script(SCRIPT, "photos/all.json", "--output", "out", "--place", "in-place", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "photos/labels/plain.txt").exists()
    assert not list((tmp_path / "elsewhere").glob("*.txt"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "SOURCE, --output"),
        (("all.json", "--output", "out", "--split", "many"), "expected a number from 0 to 1, got 'many'"),
        (("all.json", "--output", "out", "--split", 0), "--split"),
        (("all.json", "--output", "out", "--names", "none.names"), "none.names: cannot read"),
        (("all.json", "--output", "out", "--place", "hide"), "'hide'"),
        (("all.json", "--output", "out", "--images", "none"), "none: expected the images"),
        (("all.json", "--output", "images"), "--output: "),
        (("images", "--output", "out"), "images: expected a COCO JSON file, a folder of VOC XML files or "),
        (("none.json", "--output", "out"), "none.json: expected"),
        (("none", "--output", "out", "--format", "voc"), "none: expected a folder of VOC XML files"),
    ],
)
def test_bad_arguments(arguments, message, run_script, tmp_path):
    write_coco(tmp_path)
    result = run_script(SCRIPT, *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_voc(run_script, tmp_path):
    """The layout of VOC with lists; images with the <filename> or the name of the XML file; difficult objects."""
    cases = {
        "2007_1": ("2007_1.jpg", [("dog", (1, 1, 32, 24), False), ("cat & co", (33, 25, 64, 48), True)], None),
        "sub/zwei drei": ("sub/zwei drei.JPEG", [("dog", (17, 13, 48, 36), False)], "old name.jpg"),
        "三": ("photo.png", [("cat & co", (1, 1, 64, 48), False)], "C:\\photos\\photo.png"),
        "empty": ("empty.jpg", [], "empty.jpg"),
    }
    for seed, (name, (image, objects, stated)) in enumerate(cases.items()):
        write_image(tmp_path / "VOC/JPEGImages" / image, seed=seed)
        write_voc(tmp_path / "VOC/Annotations" / f"{name}.xml", objects, file_name=stated)
    (tmp_path / "train.txt").write_text("2007_1  1\n三 -1\nempty\n", encoding="utf-8")
    (tmp_path / "val.txt").write_text("sub/zwei drei\n", encoding="utf-8")
    lists = ("--train-list", "train.txt", "--val-list", "val.txt")
    result = run_script(SCRIPT, "VOC", *lists, "--output", "out", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "1 difficult boxes" in result.stdout
    config = read_config(tmp_path / "out/out.data")
    assert config.class_names == ("dog", "cat & co")
    train, val = (load_index(path, classes=2) for path in (config.train, config.val))
    by_name = {Path(image).name: labels.tolist() for image, labels in zip(train.images, train.labels, strict=True)}
    assert by_name == {"2007_1.jpg": [[0, 0.25, 0.25, 0.5, 0.5]], "photo.png": [[1, 0.5, 0.5, 1, 1]], "empty.jpg": []}
    assert list(map(Path, val.images)) == [tmp_path / "out/images/val/sub/zwei drei.JPEG"]
    assert val.labels[0].tolist() == [[0, 0.5, 0.5, 0.5, 0.5]]

    options = ("--images", "VOC/JPEGImages", "--keep-difficult", "--place", "copy")
    result = run_script(SCRIPT, "VOC/Annotations", *lists, *options, "--output", "all", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    index = load_index(read_config(tmp_path / "all/all.data").train)
    assert sorted(index.labels[0].tolist()) == [[0, 0.25, 0.25, 0.5, 0.5], [1, 0.75, 0.75, 0.5, 0.5]]


def test_voc_problems_are_listed(run_script, tmp_path):
    write_image(tmp_path / "photos/a.jpg")
    write_voc(tmp_path / "xml/a.xml", [("cat", (1, 1, 32, 24), False), ("cat", (5, 5, 4, 4), False)])
    write_voc(tmp_path / "xml/gone.xml", [("cat", (1, 1, 32, 24), False)])
    (tmp_path / "xml/broken.xml").write_text("<annotation>\n<object>\n", encoding="utf-8")
    (tmp_path / "names.txt").write_text("a\ngone\nbroken\nnever\n", encoding="utf-8")
    arguments = ("xml", "--images", "photos", "--output", "out", "--train-list", "names.txt")
    result = run_script(SCRIPT, *arguments, cwd=tmp_path)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    lines = sorted((tmp_path / "out/problems.txt").read_text(encoding="utf-8").replace(os.sep, "/").splitlines())
    starts = ("a.xml: object 2 (cat): box 4 4 4 4 ", "broken.xml:3: ", "gone.xml: image not found: ", "never.xml: ")
    assert len(lines) == len(starts)
    assert all(line.startswith(f"dropped: xml/{start}") for line, start in zip(lines, starts, strict=True))
    assert all(line in result.stderr for line in lines)


def test_no_objects(run_script, tmp_path):
    write_image(tmp_path / "a.png")
    write_voc(tmp_path / "a.xml", [])
    result = run_script(SCRIPT, ".", "--output", "out", cwd=tmp_path)
    assert result.returncode == 2
    assert "expected annotations with objects" in result.stderr


def test_an_import_without_boxes_fails_and_says_why(run_script, tmp_path):
    path, content = write_coco(tmp_path)
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1
    path.write_text(json.dumps(content), encoding="utf-8")
    result = run_script(SCRIPT, "all.json", "--output", "out", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("error: all.json: ")
    assert "--keep-crowds" in result.stderr
    assert not (tmp_path / "out").exists()
