"""COCO and VOC to darknet, and back."""

import json
import math
import os
import shutil
from collections import Counter
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from tests.helpers.dataset_files import write_picture
from utils.anchors import box_sizes, cluster
from utils.config import read_config
from utils.convert.annotations import (
    MIN_SIDE,
    AnnotatedImage,
    Annotations,
    Box,
    Findings,
    LabelledImage,
    choose_classes,
    locate,
    normalise,
    split_images,
)
from utils.convert.coco import read_coco
from utils.convert.to_darknet import label_text
from utils.convert.voc import read_voc
from utils.dataset.coco import coco_content, image_ids
from utils.dataset.index import load_index
from utils.dataset.labels import find_labels, parse_labels
from utils.dataset.lists import list_images
from utils.errors import InputError

# Sub-folders, blanks, other scripts, dots, a name that a glob or a comment could be taken for.
NAMES = ["plain.jpg", "with blank/two words.png", "猫/ñandú ü.JPG", "v1.2/a.b.c.jpeg", "# [x].bmp", "deep/er/é/x.webp"]
CATEGORIES = [{"id": 90, "name": "dog"}, {"id": 7, "name": "traffic light"}, {"id": 13, "name": "猫"}]


def write_coco(folder, names=tuple(NAMES), boxes=5):
    """Pictures under `folder/photos` and a COCO JSON of random boxes for them; (path of the JSON, its content)."""
    random = np.random.default_rng(1)
    images, annotations = [], []
    for number, name in enumerate(names):
        width, height = random.integers(30, 90, 2).tolist()
        write_picture(folder / "photos" / name, width, height, seed=number)
        images.append({"id": 1000 - 7 * number, "file_name": name, "width": width, "height": height})
        for _ in range(boxes if number else 0):  # the first has none
            x, y = (random.random(2) * (width, height) * 0.7).tolist()
            size = (random.random(2) * (width - x - 1, height - y - 1) + 0.5).tolist()
            category = CATEGORIES[len(annotations) % 3]["id"]
            annotation = {"id": len(annotations), "image_id": images[-1]["id"], "category_id": category}
            annotations.append({**annotation, "bbox": [x, y, *size], "iscrowd": 0})
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    path = folder / "all.json"
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path, content


def boxes_by_name(content, strip=""):
    """{file name: sorted (category name, x, y, w, h as fractions of the image)}."""
    categories = {category["id"]: category["name"] for category in content["categories"]}
    images = {image["id"]: image for image in content["images"]}
    found = {image["file_name"].removeprefix(strip): [] for image in images.values()}
    for annotation in content["annotations"]:
        image = images[annotation["image_id"]]
        box = np.array(annotation["bbox"]) / (image["width"], image["height"], image["width"], image["height"])
        found[image["file_name"].removeprefix(strip)].append((categories[annotation["category_id"]], *box.tolist()))
    return {name: sorted(rows) for name, rows in found.items()}


def assert_same_boxes(found, expected):
    assert found.keys() == expected.keys()
    for name, rows in expected.items():
        assert [row[0] for row in found[name]] == [row[0] for row in rows]
        difference = np.array([row[1:] for row in found[name]]) - np.array([row[1:] for row in rows])
        assert np.abs(difference).max(initial=0) < 1e-6


def read_json(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


# --- boxes ---


@settings(deadline=None)
@given(
    size=st.tuples(st.integers(1, 10_000), st.integers(1, 10_000)),
    fractions=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_a_box_survives_its_label_file(size, fractions):
    x1, x2 = sorted(fractions[:2])
    y1, y2 = sorted(fractions[2:])
    corners = (x1 * size[0], y1 * size[1], x2 * size[0], y2 * size[1])
    if min(x2 - x1, y2 - y1) < 1.01 * MIN_SIDE:
        return
    box, excess = normalise(corners, size)
    assert excess < 1e-9 * max(size)
    ((number, cx, cy, w, h),) = parse_labels(label_text([(3, *box)])).labels.astype(float)
    assert number == 3
    assert np.abs(np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]) - (x1, y1, x2, y2)).max() < 1e-6


@settings(deadline=None)
@given(st.tuples(*[st.floats(-300, 300)] * 4))
def test_a_box_is_cut_to_its_image(corners):
    try:
        (cx, cy, w, h), excess = normalise(corners, (100, 50))
    except ValueError:
        return
    assert min(cx - w / 2, cy - h / 2) >= -1e-12
    assert max(cx + w / 2, cy + h / 2) <= 1 + 1e-12
    assert (excess > 0) == (min(corners[:2]) < 0 or corners[2] > 100 or corners[3] > 50)


def test_label_text_is_darknets():
    assert label_text([(0, 0.5, 0.25, 1 / 3, 1.0), (12, 1e-6, 0.1, 2e-6, 0.2)]) == (
        "0 0.500000000 0.250000000 0.333333333 1.000000000\n12 0.000001000 0.100000000 0.000002000 0.200000000\n"
    )
    assert label_text([]) == ""


def test_split_is_by_name_and_seed_only():
    images = [LabelledImage(Path(f"{n}.jpg"), Path(f"{n}.jpg"), []) for n in range(50)]
    train, val = split_images(images, 0.8, seed=3)
    assert (len(train), len(val)) == (40, 10)
    assert sorted(train + val) == sorted(images)
    assert split_images(images[::-1], 0.8, seed=3) == (train, val)
    assert split_images(images, 0.8, seed=4) != (train, val)
    assert [len(part) for part in split_images(images[:2], 0.99, seed=0)] == [1, 1]
    assert [len(part) for part in split_images(images[:1], 0.5, seed=0)] in ([0, 1], [1, 0])


def test_classes_of_two_sets():
    train, val = Annotations(("cat", "dog"), []), Annotations(("dog", "bird"), [])
    assert choose_classes({"train": train, "val": Annotations(("dog",), [])}) == ("cat", "dog")
    with pytest.raises(InputError, match="the val annotations have classes that train has not: 'bird'"):
        choose_classes({"train": train, "val": val})
    assert choose_classes({"train": train, "val": val}, ("bird", "cat"), "x.names") == ("bird", "cat")
    with pytest.raises(InputError, match=r"x\.names: class 'cow' is not in the annotations: 'bird', 'cat', 'dog'"):
        choose_classes({"train": train, "val": val}, ("cow",), "x.names")


def test_image_resized_since_it_was_annotated(tmp_path):
    write_picture(tmp_path / "a.png", 50, 40)
    image = AnnotatedImage(("a.png",), (100, 80), [Box("cat", (0, 0, 50, 40), "here")], "here")
    findings = Findings()
    (located,) = locate([image], tmp_path, ("cat",), findings)
    assert located.labels == [(0, 0.25, 0.25, 0.5, 0.5)]
    assert not findings.dropped


# --- COCO ---


@pytest.mark.parametrize("place", ["link", "copy", "in-place"])
def test_coco_round_trip(place, run_script, tmp_path):
    """Not contiguous ids, odd names, an image without boxes; run from another folder than the project's."""
    _, content = write_coco(tmp_path)
    result = run_script(
        *("tools/coco_to_darknet.py", "--json", "all.json", "--images", "photos", "--output", "out", "--place", place),
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    config = read_config(tmp_path / "out/out.data")
    assert config.class_names == ("traffic light", "猫", "dog")  # in the order of their ids
    assert config.val is None
    images = list_images(config.train)
    assert [image.is_symlink() for image in images] == [place == "link"] * len(NAMES)
    assert None not in find_labels(images.names)
    index = load_index(config.train, classes=3)
    assert (len(index), index.missing_labels) == (len(NAMES), 0)
    sizes = box_sizes(index.labels, 352, 352)
    assert np.abs(np.array(config.anchors).reshape(-1, 2) - cluster(sizes, 6)).max() < 0.02

    root = tmp_path / ("photos" if place == "in-place" else "out/images/train")
    result = run_script(
        *("tools/darknet_to_coco.py", "--data", "out/out.data", "--set", "train", "--root", root),
        *("--output", "back.json"),
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert_same_boxes(boxes_by_name(read_json(tmp_path / "back.json")), boxes_by_name(content))


def test_coco_written_is_read_by_pycocotools(tmp_path, capsys):
    path, content = write_coco(tmp_path)
    findings = Findings()
    annotations = read_coco(path, findings)
    located = locate(annotations.images, tmp_path / "photos", annotations.class_names, findings)
    for image in located:
        image.path.with_suffix(".txt").write_text(label_text(image.labels), encoding="utf-8")
    index = load_index(tmp_path / "photos", cache=False)
    (tmp_path / "back.json").write_text(json.dumps(coco_content(index, annotations.class_names, tmp_path)))
    coco = COCO(tmp_path / "back.json")
    assert len(coco.getAnnIds()) == len(content["annotations"])
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(annotations.class_names)
    results = [
        {"image_id": entry["image_id"], "category_id": entry["category_id"], "bbox": entry["bbox"], "score": 0.9}
        for entry in coco.dataset["annotations"]
    ]
    from pycocotools.cocoeval import COCOeval

    evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    # The maximum of one detection an image apart, the truth scores 1.
    assert evaluation.stats[0] == pytest.approx(1)
    capsys.readouterr()


def test_round_trip_on_coco_images(run_script, shared, tmp_path):
    source = shared / "coco-val128"
    arguments = ("--names", source / "coco.names")
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    result = run_script(
        *("tools/darknet_to_coco.py", "--list", source / "val.txt", *arguments, "--root", source / "images"),
        *("--output", first),
    )
    assert result.returncode == 0, result.stderr
    result = run_script(
        *("tools/coco_to_darknet.py", "--json", first, "--images", source / "images", "--output", tmp_path / "out"),
        *("--split", 0.75, "--seed", 5),
    )
    assert result.returncode == 0, result.stderr
    config = read_config(tmp_path / "out/out.data")
    parts = {}
    for key, count in (("train", 96), ("val", 32)):
        result = run_script(
            *("tools/darknet_to_coco.py", "--data", config.path, "--set", key),
            *("--root", tmp_path / "out/images" / key, "--output", second),
        )
        assert result.returncode == 0, result.stderr
        content = read_json(second)
        assert len(content["images"]) == count
        # COCO's images are named by their ids.
        assert all(int(Path(image["file_name"]).stem) == image["id"] for image in content["images"])
        parts |= boxes_by_name(content)
    assert len(read_json(first)["annotations"]) == 898
    assert_same_boxes(parts, boxes_by_name(read_json(first)))


def test_crowds_by_flag(tmp_path):
    path, content = write_coco(tmp_path)
    for annotation in content["annotations"][:4]:
        annotation["iscrowd"] = 1
    path.write_text(json.dumps(content), encoding="utf-8")
    counts = {}
    for keep in (False, True):
        findings = Findings()
        annotations = read_coco(path, findings, keep_crowds=keep)
        counts[keep] = sum(len(image.boxes) for image in annotations.images)
        assert findings.dropped == []
        assert findings.left_out.total() == (0 if keep else 4)
    assert counts == {False: len(content["annotations"]) - 4, True: len(content["annotations"])}


def test_chosen_classes_and_two_sets(run_script, tmp_path):
    write_coco(tmp_path / "train")
    write_coco(tmp_path / "val", NAMES[:3])
    (tmp_path / "mine.names").write_text("dog\n猫\n", encoding="utf-8")
    result = run_script(
        *("tools/coco_to_darknet.py", "--json", "train/all.json", "--images", "train/photos"),
        *("--val-json", "val/all.json", "--val-images", "val/photos", "--output", "out", "--name", "pets"),
        *("--names", "mine.names", "--width", 640, "--height", 320),
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert "boxes of class 'traffic light', which --names has not" in result.stdout
    config = read_config(tmp_path / "out/pets.data")
    assert (config.model_name, config.class_names, config.width, config.height) == ("pets", ("dog", "猫"), 640, 320)
    train, val = (load_index(path, classes=2) for path in (config.train, config.val))
    assert (len(train), len(val)) == (len(NAMES), 3)
    _, content = write_coco(tmp_path / "again")
    expected = Counter({category["id"]: 0 for category in CATEGORIES})
    expected.update(annotation["category_id"] for annotation in content["annotations"])
    found = Counter(np.concatenate(train.labels)[:, 0].astype(int).tolist())
    assert found == {0: expected[90], 1: expected[13]}


def test_few_boxes_get_cocos_anchors(run_script, tmp_path):
    write_coco(tmp_path, NAMES[:2], boxes=2)
    result = run_script(
        *("tools/coco_to_darknet.py", "--json", "all.json", "--images", "photos", "--output", "out"), cwd=tmp_path
    )
    assert result.returncode == 0
    assert "the .data file gets COCO's anchors" in result.stderr
    assert read_config(tmp_path / "out/out.data").anchors[0][0] == (12.64, 19.39)


def test_a_box_that_sticks_out_is_cut_and_said(run_script, tmp_path):
    path, content = write_coco(tmp_path)
    content["annotations"][0]["bbox"] = [-5, 2, 20, 10]
    path.write_text(json.dumps(content), encoding="utf-8")
    result = run_script(
        *("tools/coco_to_darknet.py", "--json", "all.json", "--images", "photos", "--output", "out"), cwd=tmp_path
    )
    assert result.returncode == 0
    assert "warning: changed: all.json: annotation id 0: box -5 2 15 12 cut to the image of " in result.stderr
    assert "broken entries dropped: 0, boxes cut: 1" in result.stdout
    assert (tmp_path / "out/problems.txt").read_text(encoding="utf-8").count("\n") == 1


def test_nothing_of_the_users_is_overwritten(run_script, tmp_path):
    write_coco(tmp_path)
    arguments = ("tools/coco_to_darknet.py", "--json", "all.json", "--images", "photos", "--output", "out")
    (tmp_path / "photos/plain.txt").write_text("mine\n", encoding="utf-8")
    result = run_script(*arguments, "--place", "in-place", cwd=tmp_path)
    assert result.returncode == 2
    assert "plain.txt: this label file is there already" in result.stderr
    assert (tmp_path / "photos/plain.txt").read_text(encoding="utf-8") == "mine\n"
    assert len(list((tmp_path / "photos").rglob("*.txt"))) == 1
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.md").write_text("mine\n", encoding="utf-8")
    result = run_script(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert "out: expected a new or empty folder" in result.stderr


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--width", 350), "--width: expected a multiple of 32, got 350"),
        (("--split", 0.5, "--val-json", "all.json"), "--split: divides one set"),
        (("--split", 1), "expected a number between 0 and 1, got '1'"),
        (("--split", "many"), "expected a number, got 'many'"),
        (("--name", "a/b"), "--name: expected a name that files can have, got 'a/b'"),
        (("--name", "a #b"), "--name: expected a name that files can have, got 'a #b'"),
        (("--names", "none.names"), "none.names: cannot read"),
        (("--place", "hide"), "invalid choice: 'hide'"),
    ],
)
def test_bad_options(extra, message, run_script, tmp_path):
    write_coco(tmp_path)
    result = run_script(
        *("tools/coco_to_darknet.py", "--json", "all.json", "--images", "photos", "--output", "out", *extra),
        cwd=tmp_path,
    )
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


# --- darknet to COCO ---


def test_darknet_problems_are_listed(run_script, tmp_path):
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        write_picture(tmp_path / name, 40, 20, seed=number)
    (tmp_path / "d.png").write_text("no picture\n", encoding="utf-8")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n9 0.5 0.5 0.5 0.5\n1 0.25 0.5 0.5 1\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("", encoding="utf-8")
    (tmp_path / "x.names").write_text("cat\ndog\n", encoding="utf-8")
    result = run_script(
        *("tools/darknet_to_coco.py", "--list", ".", "--names", "x.names", "--output", "x.json"), cwd=tmp_path
    )
    assert result.returncode == 1
    assert "warning: dropped: a.txt:2: expected class 0…1, got 9" in result.stderr
    assert "warning: dropped: d.png: expected an image" in result.stderr
    assert "2 of 4 images have no label file" in result.stderr
    content = read_json(tmp_path / "x.json")
    assert [image["file_name"] for image in content["images"]] == ["a.png", "b.png", "c.png"]
    assert [(box["category_id"], box["bbox"]) for box in content["annotations"]] == [
        (1, [10, 5, 20, 10]),
        (2, [0, 0, 20, 20]),
    ]


def test_image_ids():
    assert image_ids(["x/000012.jpg", "7.png"]) == [12, 7]
    assert image_ids(["a/1.jpg", "b/1.jpg"]) == [1, 2]
    assert image_ids(["9.jpg", "b.jpg", "².jpg"]) == [1, 2, 3]
    assert image_ids([]) == []


# --- VOC ---


def write_voc(path, objects, size=(64, 48), file_name=None):
    """A VOC file of (class, (xmin, ymin, xmax, ymax), difficult)."""
    text = "".join(
        f"<object><name>{escape(name)}</name><difficult>{difficult:d}</difficult><bndbox>"
        + "".join(
            f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
        )
        + "</bndbox></object>"
        for name, corners, difficult in objects
    )
    stated = f"<filename>{escape(file_name)}</filename>" if file_name else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    path.write_text(f"<annotation>\n{stated}\n{size}\n{text}\n</annotation>\n", encoding="utf-8")


def test_voc_to_darknet(run_script, tmp_path):
    """VOC's layout, with lists; an image found by its <filename>, others by the XML's name; difficult objects."""
    cases = {
        "2007_1": ("2007_1.jpg", [("dog", (1, 1, 32, 24), False), ("cat & co", (33, 25, 64, 48), True)], None),
        "sub/zwei drei": ("sub/zwei drei.JPEG", [("dog", (17, 13, 48, 36), False)], "old name.jpg"),
        "三": ("photo.png", [("cat & co", (1, 1, 64, 48), False)], "C:\\photos\\photo.png"),
        "empty": ("empty.jpg", [], "empty.jpg"),
    }
    for number, (name, (image, objects, stated)) in enumerate(cases.items()):
        write_picture(tmp_path / "JPEGImages" / image, seed=number)
        write_voc(tmp_path / "Annotations" / f"{name}.xml", objects, file_name=stated)
    lists = tmp_path / "ImageSets"
    lists.mkdir()
    (lists / "train.txt").write_text("2007_1  1\n三 -1\nempty\n", encoding="utf-8")
    (lists / "val.txt").write_text("sub/zwei drei\n", encoding="utf-8")
    arguments = (
        *("tools/voc_to_darknet.py", "--annotations", "Annotations", "--images", "JPEGImages"),
        *("--train", "ImageSets/train.txt", "--val", "ImageSets/val.txt"),
    )
    result = run_script(*arguments, "--output", "out", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "left out: 1 difficult boxes" in result.stdout
    config = read_config(tmp_path / "out/out.data")
    assert config.class_names == ("cat & co", "dog")
    train, val = (load_index(path, classes=2) for path in (config.train, config.val))
    by_name = {image.name: labels.tolist() for image, labels in zip(train.images, train.labels, strict=True)}
    assert by_name == {"2007_1.jpg": [[1, 0.25, 0.25, 0.5, 0.5]], "photo.png": [[0, 0.5, 0.5, 1, 1]], "empty.jpg": []}
    assert list(val.images) == [tmp_path / "out/images/val/sub/zwei drei.JPEG"]
    assert val.labels[0].tolist() == [[1, 0.5, 0.5, 0.5, 0.5]]

    result = run_script(*arguments, "--output", "all", "--keep-difficult", "--place", "copy", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    index = load_index(read_config(tmp_path / "all/all.data").train)
    assert sorted(index.labels[0].tolist()) == [[0, 0.75, 0.75, 0.5, 0.5], [1, 0.25, 0.25, 0.5, 0.5]]


@pytest.mark.parametrize(("origin", "expected"), [(1, (0.0, 0.0, 0.5, 0.5)), (0, (1 / 64, 1 / 48, 0.5, 0.5))])
def test_voc_origin(origin, expected, tmp_path):
    write_picture(tmp_path / "a.png")
    write_voc(tmp_path / "a.xml", [("cat", (1, 1, 32, 24), False)])
    findings = Findings()
    sets = read_voc(tmp_path, findings, origin=origin)
    (located,) = locate(sets["train"].images, tmp_path, ("cat",), findings)
    ((_, cx, cy, w, h),) = located.labels
    assert (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2) == pytest.approx(expected)


@pytest.mark.parametrize("size", [None, (0, 0)])
def test_voc_without_size(size, tmp_path):
    """Some programs write none or zeros; the image's own is taken."""
    write_picture(tmp_path / "a.png", 64, 48)
    write_voc(tmp_path / "a.xml", [("cat", (1, 1, 32, 24), False)], size=size)
    findings = Findings()
    sets = read_voc(tmp_path, findings)
    (located,) = locate(sets["train"].images, tmp_path, ("cat",), findings)
    assert located.labels == [(0, 0.25, 0.25, 0.5, 0.5)]


def test_voc_problems_are_listed(run_script, tmp_path):
    write_picture(tmp_path / "photos/a.jpg")
    write_voc(tmp_path / "xml/a.xml", [("cat", (1, 1, 32, 24), False), ("cat", (5, 5, 4, 4), False)])
    write_voc(tmp_path / "xml/gone.xml", [("cat", (1, 1, 32, 24), False)])
    (tmp_path / "xml/broken.xml").write_text("<annotation>\n<object>\n", encoding="utf-8")
    (tmp_path / "names.txt").write_text("a\ngone\nbroken\nnever\n", encoding="utf-8")
    result = run_script(
        *("tools/voc_to_darknet.py", "--annotations", "xml", "--images", "photos", "--output", "out"),
        *("--train", "names.txt"),
        cwd=tmp_path,
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    dropped = (tmp_path / "out/problems.txt").read_text(encoding="utf-8").splitlines()
    assert sorted(line.removeprefix("dropped: ").replace(os.sep, "/") for line in dropped) == [
        "xml/a.xml: object 2 (cat): box 4 4 4 4 has no area inside the image of 64x48 pixels",
        "xml/broken.xml:3: malformed XML: no element found",
        "xml/gone.xml: image not found: photos/gone.jpg",
        "xml/never.xml: no such XML file, but the list names it",
    ]
    assert all(line in result.stderr for line in dropped)


def test_voc_of_real_boxes(shared, tmp_path):
    """Boxes of real photos as VOC's whole pixels and back: half a pixel is what rounding may cost, no more."""
    source = load_index(shared / "mask/val.txt", cache=False)
    expected = []
    for number in range(0, len(source), 10):
        image, labels, (width, height) = source.images[number], source.labels[number], source.sizes[number].tolist()
        shutil.copy(image, tmp_path)
        corners = np.hstack((labels[:, 1:3] - labels[:, 3:] / 2, labels[:, 1:3] + labels[:, 3:] / 2))
        pixels = np.rint(corners * (width, height, width, height)).astype(int) + np.array((1, 1, 0, 0))
        objects = [(str(int(row[0])), box, False) for row, box in zip(labels, pixels.tolist(), strict=True)]
        write_voc(tmp_path / f"{image.stem}.xml", objects, size=(width, height))
        expected.append((corners, (width, height)))
    findings = Findings()
    sets = read_voc(tmp_path, findings)
    located = locate(sets["train"].images, tmp_path, sets["train"].class_names, findings)
    assert len(located) == len(expected) == 16
    for image, (corners, size) in zip(located, expected, strict=True):
        found = np.array(image.labels)
        found = np.hstack((found[:, 1:3] - found[:, 3:] / 2, found[:, 1:3] + found[:, 3:] / 2))
        assert (np.abs(found - corners) * np.tile(size, 2)).max() <= 0.5 + 1e-3
    assert not math.isnan(found.sum())
