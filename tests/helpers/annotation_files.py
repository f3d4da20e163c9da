"""Small sets of images with COCO or VOC annotations on disk, and comparisons of boxes, for tests."""

import json
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from tests.helpers.dataset_files import write_image

# Sub-folders, blanks, other scripts, dots, a name that looks like a glob and a comment.
NAMES = ["plain.jpg", "with blank/two words.png", "猫/ñandú ü.JPG", "v1.2/a.b.c.jpeg", "# [x].bmp", "deep/er/é/x.webp"]
CATEGORIES = [{"id": 90, "name": "dog"}, {"id": 7, "name": "traffic light"}, {"id": 13, "name": "猫"}]


def write_coco(folder, names=tuple(NAMES), boxes=5):
    """Write images under `folder/images` with random boxes in all but the first; return the JSON path and content."""
    random = np.random.default_rng(1)
    images, annotations = [], []
    for index, name in enumerate(names):
        width, height = random.integers(30, 90, 2).tolist()
        write_image(folder / "images" / name, width, height, seed=index)
        images.append({"id": 1000 - 7 * index, "file_name": name, "width": width, "height": height})
        for _ in range(boxes if index else 0):
            x, y = (random.random(2) * (width, height) * 0.7).tolist()
            size = (random.random(2) * (width - x - 1, height - y - 1) + 0.5).tolist()
            category = CATEGORIES[len(annotations) % 3]["id"]
            annotation = {"id": len(annotations), "image_id": images[-1]["id"], "category_id": category}
            annotations.append({**annotation, "bbox": [x, y, *size], "iscrowd": 0})
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    path = folder / "all.json"
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path, content


def write_voc(path, objects, size=(64, 48), file_name=None):
    """Write a VOC file of objects: (class name, (xmin, ymin, xmax, ymax), difficult)."""
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


def read_json(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def boxes_by_name(content):
    """Return {file name: sorted (category name, x, y, w, h as fractions of the image)} of COCO content."""
    categories = {category["id"]: category["name"] for category in content["categories"]}
    images = {image["id"]: image for image in content["images"]}
    boxes = {image["file_name"]: [] for image in images.values()}
    for annotation in content["annotations"]:
        image = images[annotation["image_id"]]
        box = np.array(annotation["bbox"]) / (image["width"], image["height"], image["width"], image["height"])
        boxes[image["file_name"]].append((categories[annotation["category_id"]], *box.tolist()))
    return {name: sorted(rows) for name, rows in boxes.items()}


def assert_same_boxes(boxes, expected):
    assert boxes.keys() == expected.keys()
    for name, rows in expected.items():
        assert [row[0] for row in boxes[name]] == [row[0] for row in rows]
        difference = np.array([row[1:] for row in boxes[name]]) - np.array([row[1:] for row in rows])
        assert np.abs(difference).max(initial=0) < 1e-6
