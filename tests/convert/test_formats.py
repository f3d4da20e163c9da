"""The format of a source, and the options of a format."""

import pytest

from tests.helpers.annotation_files import write_coco, write_voc
from utils.convert import coco, voc
from utils.convert.formats import find_sets
from utils.convert.options import ImportOptions
from utils.errors import InputError


@pytest.fixture
def choose(tmp_path):
    write_coco(tmp_path, ["a.png"])
    write_voc(tmp_path / "xml/a.xml", [("cat", (1, 1, 2, 2), False)])

    def choose(source, **values):
        if "val" in values:
            values["val"] = tmp_path / values["val"]
        reader, _ = find_sets(tmp_path / source, ImportOptions(tmp_path / source, tmp_path / "out", **values))
        return reader

    return choose


def test_formats_are_recognized_or_forced(choose):
    assert choose("all.json", keep_crowds=True) is coco
    assert choose("xml", keep_difficult=True) is voc
    assert choose("xml", val="xml") is voc
    assert choose("none", format="coco") is coco


@pytest.mark.parametrize(
    ("source", "values", "message"),
    [
        ("images", {}, r"images: expected a COCO JSON file or a folder of VOC XML files .*, got .* 1 \.png$"),
        ("none.json", {}, "none.json: expected .*, got nothing at this path"),
        ("images/a.png", {}, "a.png: expected .*, got"),
        ("xml", {"val": "all.json"}, "--val: expected a folder of VOC XML files"),
        ("xml", {"keep_crowds": True}, "--keep-crowds: .*VOC"),
        ("all.json", {"keep_difficult": True}, "--keep-difficult: .*COCO"),
        ("all.json", {"origin": 0}, "--origin: .*COCO"),
        ("all.json", {"train_list": "train.txt"}, "--train-list: .*COCO"),
    ],
)
def test_sources_and_options_that_do_not_fit(source, values, message, choose):
    with pytest.raises(InputError, match=message) as raised:
        choose(source, **values)
    assert "\n" not in str(raised.value)
