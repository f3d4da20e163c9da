"""The format of a source, and the options of a format."""

import pytest

from tests.helpers import yolo_exports as exports
from tests.helpers.annotation_files import write_coco, write_voc
from utils.convert import coco, voc
from utils.convert.formats import find_sets
from utils.convert.importer import import_dataset
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
        ("images", {}, r"images: expected a COCO JSON file, a folder of VOC XML files or .* labels, got .* 1 \.png$"),
        ("none.json", {}, "none.json: expected .*, got nothing at this path"),
        ("images/a.png", {}, "a.png: expected .*, got none of them$"),
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


def found_sets(source, tmp_path, **values):
    reader, sets = find_sets(source, ImportOptions(source, tmp_path / "out", **values))
    return reader.__name__.rpartition(".")[2], list(sets)


IMAGES = [("train", "a", [(0, 0.5, 0.5, 0.25, 0.25)]), ("val", "b", [(1, 0.5, 0.5, 0.25, 0.25)])]


def test_xml_files_of_other_programs_are_no_annotations(tmp_path):
    source = exports.roboflow(tmp_path / "in", IMAGES, ("cat", "dog"))
    (source / ".idea").mkdir()
    (source / ".idea/misc.xml").write_text('<?xml version="1.0"?>\n<project version="4"/>\n', encoding="utf-8")
    (source / "settings.xml").write_text("<component/>\n", encoding="utf-8")
    assert found_sets(source, tmp_path) == ("yolo", ["train", "val"])


def test_paths_of_another_computer_in_a_description(tmp_path):
    source = exports.roboflow(tmp_path / "in", IMAGES, ("cat", "dog"))
    text = (source / "data.yaml").read_text(encoding="utf-8")
    text = text.replace("../train/images", "/content/faces-1").replace("../valid/images", "/content/faces-2")
    (source / "data.yaml").write_text(text, encoding="utf-8")
    assert found_sets(source, tmp_path) == ("yolo", ["train", "val"])


def test_annotations_in_two_formats(tmp_path):
    source = exports.roboflow(tmp_path / "in", IMAGES, ("cat", "dog"))
    exports.coco(source, IMAGES, ("cat", "dog"))
    with pytest.raises(InputError, match=r"got several: coco, yolo; choose with --format$"):
        found_sets(source, tmp_path)


def test_a_json_file_that_cannot_be_read(tmp_path):
    source = exports.coco(tmp_path / "in", IMAGES, ("cat", "dog"))
    (source / "old.json").symlink_to("nowhere.json")
    with pytest.raises(InputError, match=r"old\.json: cannot read"):
        found_sets(source, tmp_path)


def test_coco_next_to_labels_without_class_names(tmp_path):
    source = exports.coco(tmp_path / "in", IMAGES, ("cat", "dog"))
    (source / "train/a.txt").write_text("0 0.5 0.5 0.25 0.25\n", encoding="utf-8")
    assert found_sets(source, tmp_path) == ("coco", ["train", "val"])


@pytest.mark.parametrize("write", [exports.labelimg, exports.roboflow, exports.coco], ids=lambda write: write.__name__)
def test_classes_of_the_same_name_stay_apart(tmp_path, capsys, write):
    images = [("train", "a", [(0, 0.5, 0.5, 0.25, 0.25), (2, 0.25, 0.25, 0.25, 0.25)]), ("val", "b", [])]
    source = write(tmp_path / "in", images, ("cat", "dog", "cat"))
    import_dataset(ImportOptions(source, tmp_path / "out"))
    assert (tmp_path / "out/out.names").read_text(encoding="utf-8") == "cat\ndog\ncat (2)\n"
    (labels,) = [path.read_text() for path in (tmp_path / "out/labels").rglob("*.txt") if path.stem[0] == "a"]
    assert [line.split()[0] for line in labels.splitlines()] == ["0", "2"]
    assert "'cat'" in capsys.readouterr().err


def test_a_repository_that_contains_a_voc_folder(tmp_path):
    exports.voc(tmp_path / "in" / "BCCD", IMAGES, ("cat", "dog"))
    (tmp_path / "in" / "README.md").write_text("# Cells", encoding="utf-8")
    assert found_sets(tmp_path / "in", tmp_path) == ("voc", ["train", "val"])


@pytest.mark.parametrize("images", [".", "images"])
def test_coco_files_in_a_folder_of_their_own(tmp_path, images):
    source = exports.coco(tmp_path / "in", IMAGES, ("cat", "dog"))
    (source / "annotations").mkdir()
    (source / images).mkdir(exist_ok=True)
    for old, new in (("train", "train"), ("valid", "val")):
        (source / old / "_annotations.coco.json").rename(source / f"annotations/custom_{new}.json")
        (source / old).rename(source / images / f"{new}2017")
    assert import_dataset(ImportOptions(source, tmp_path / "out")) == 0
    for key, name in (("train", "a"), ("val", "b")):
        assert (tmp_path / f"out/images/{key}/{name}.png").exists()
