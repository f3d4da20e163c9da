"""COCO JSON files; broken ones are tested in test_bad_inputs.py."""

import json

import pytest

from tests.helpers.annotation_files import write_coco
from utils.convert import coco
from utils.convert.annotations import Problems
from utils.convert.options import ImportOptions


def read(path, **values):
    """Return the annotations and the problems of a COCO JSON file."""
    problems = Problems()
    options = ImportOptions(path, path.parent / "out", **values)
    return coco.read(options.sets["train"], options, problems), problems


def test_categories_are_in_the_order_of_their_ids(tmp_path):
    annotations, problems = read(write_coco(tmp_path)[0])
    assert annotations.class_names == ("traffic light", "猫", "dog")
    assert problems == Problems()


@pytest.mark.parametrize("keep", [False, True])
def test_crowds(keep, tmp_path):
    path, content = write_coco(tmp_path)
    for annotation in content["annotations"][:4]:
        annotation["iscrowd"] = 1
    path.write_text(json.dumps(content), encoding="utf-8")
    annotations, problems = read(path, keep_crowds=keep)
    crowds = 0 if keep else 4
    assert sum(len(image.boxes) for image in annotations.images) == len(content["annotations"]) - crowds
    assert problems.skipped.total() == crowds
    assert problems.dropped == []


@pytest.mark.parametrize("size", [{}, {"width": None, "height": None}])
def test_images_without_size(size, tmp_path):
    path, content = write_coco(tmp_path, ["a.png"])
    content["images"] = [{"id": 1, "file_name": "a.png", **size}]
    path.write_text(json.dumps(content), encoding="utf-8")
    annotations, problems = read(path)
    assert [image.size for image in annotations.images] == [None]
    assert problems == Problems()
