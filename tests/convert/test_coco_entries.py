"""Values of COCO JSON files that programs write in different ways, and values that cannot be used."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.convert.coco_entries import parse, polygon_box, read_entries, show

IMAGE = {"id": 1, "file_name": "a.png", "width": 8, "height": 6}
ANNOTATION = {"id": 5, "image_id": 1, "category_id": 3, "bbox": [1, 1, 4, 2]}
HUGE = 10**400


def read(key, *entries, path="x.json"):
    """Return the valid entries and the messages about the others."""
    dropped = []
    return [entry for _, entry in read_entries(path, {key: list(entries)}, key, dropped)], dropped


@pytest.mark.parametrize(
    ("given", "expected"),
    [(7, 7), (7.0, 7), ("7", 7), (" 07 ", 7), ("7.0", 7), ("-1", -1), (0, 0), ("0", 0), ("a7", "a7"), ("½", "½")],
)
def test_ids_are_read_by_value(given, expected):
    entries, dropped = read("annotations", {**ANNOTATION, "image_id": given, "category_id": given})
    assert [(entry["image_id"], entry["category_id"]) for entry in entries] == [(expected, expected)]
    assert dropped == []


@pytest.mark.parametrize("flag", ["iscrowd", "ignore"])
@pytest.mark.parametrize(
    ("given", "expected"),
    [*((value, False) for value in (0, 0.0, "0", "", None, False)), *((v, True) for v in (1, 1.0, "1", "true", True))],
)
def test_flags_are_read_by_value(flag, given, expected):
    entries, dropped = read("annotations", {**ANNOTATION, flag: given})
    assert [entry[flag] for entry in entries] == [expected]
    assert dropped == []


@pytest.mark.parametrize(
    ("key", "entry", "name"),
    [
        *(("annotations", {**ANNOTATION, "iscrowd": value}, "iscrowd") for value in (2, -1, "maybe", [], float("nan"))),
        *(("annotations", {**ANNOTATION, "image_id": value}, "image_id") for value in (1.5, True, "", "\ud800", {})),
        *(("images", {**IMAGE, "width": value}, "width") for value in (0, 0.5, -4, HUGE, float("inf"), True, "8")),
        *(("images", {**IMAGE, "file_name": value}, "file_name") for value in ("\ud800.png", "a\0.png", 5, " ")),
        *(("categories", {"id": 1, "name": value}, "name") for value in ("\udfff", "", None)),
        *(("annotations", {**ANNOTATION, "bbox": [0, 0, value, 1]}, "bbox") for value in (HUGE, float("inf"), "4")),
    ],
)
def test_values_that_cannot_be_used_are_one_line(key, entry, name):
    entries, (line,) = read(key, entry)
    assert entries == []
    assert f": {name}: expected " in line
    assert "\n" not in line
    assert len(line) < 200
    line.encode("utf-8")


@pytest.mark.parametrize("number", ["9" * 5000, "1" + "0" * 400, "-" + "9" * 5000, "1e400", "Infinity", "NaN"])
@pytest.mark.parametrize("place", ["width", "id"])
def test_hostile_numbers(number, place, tmp_path):
    path = tmp_path / "a.json"
    text = json.dumps({"images": [IMAGE | {place: "@"}], "annotations": [], "categories": [{"id": 1, "name": "cat"}]})
    path.write_text(text.replace('"@"', number), encoding="utf-8")
    dropped = []
    assert list(read_entries(path, parse(path), "images", dropped)) == []
    assert len(dropped) == 1
    assert f"{place}: expected " in dropped[0]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda children: st.lists(children, max_size=5) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=10,
)


@given(st.sampled_from(["images", "annotations", "categories"]), st.data())
def test_every_entry_is_read_or_dropped(key, data):
    names = ("id", "file_name", "width", "height", "name", "image_id", "category_id", "bbox", "iscrowd", "segmentation")
    entry = data.draw(JSON | st.fixed_dictionaries(dict.fromkeys(names, JSON)))
    entries, dropped = read(key, entry)
    assert len(entries) + len(dropped) == 1
    for line in dropped:
        line.encode("utf-8")
    show(entry).encode("utf-8")
    polygon_box(entry)


def test_box_of_polygons():
    assert polygon_box([[80, 60, 240, 60, 240, 180], [300, 20, 310, 20, 310, 30]]) == [80, 20, 230, 160]
    for other in (
        None,
        [],
        [[]],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        {"counts": [1], "size": [2, 3]},
        [["a"] * 6],
    ):
        assert polygon_box(other) is None
