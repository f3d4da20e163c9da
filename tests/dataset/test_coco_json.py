"""Ids of images and categories in COCO files."""

from tests.conftest import REPO
from tests.helpers.measured import index_of, labels_of
from utils.config import read_names
from utils.dataset.coco_json import COCO_CLASSES, category_ids, coco_content, describe_ids

NAMES = read_names(REPO / "data/coco.names")


def test_classes_of_coco_get_the_category_ids_of_coco():
    ids = category_ids(NAMES)
    assert (len(ids), ids) == (80, sorted(set(ids)))
    known = {"person": 1, "stop sign": 13, "parking meter": 14, "hat": None, "backpack": 27, "handbag": 31, "tie": 32}
    known |= {"wine glass": 46, "diningtable": 67, "toilet": 70, "tvmonitor": 72, "book": 84, "toothbrush": 90}
    assert {name: ids[NAMES.index(name)] if name in NAMES else None for name in known} == known
    assert category_ids(COCO_CLASSES) == ids


def test_other_classes_get_class_ids_plus_one():
    assert category_ids(("cat", "dog")) == [1, 2]
    assert category_ids(NAMES[::-1]) == list(range(1, 81))
    assert category_ids(NAMES[:79]) == list(range(1, 80))
    assert category_ids(()) == []


def test_content_has_the_same_ids():
    content = coco_content(index_of([labels_of((0, 0, 9, 9, 79))]), NAMES, ".")
    assert [annotation["category_id"] for annotation in content["annotations"]] == [90]
    assert content["categories"][11] == {"id": 13, "name": "stop sign"}


def test_ids_are_described():
    assert "file names" in describe_ids(["000139.jpg"], NAMES)
    assert "1…90" in describe_ids(["000139.jpg"], NAMES)
    assert "order of the list" in describe_ids(["a.jpg", "7.jpg"], ("cat",))
    assert "class ids + 1" in describe_ids(["a.jpg", "7.jpg"], ("cat",))
