"""The options of an import."""

from pathlib import Path

import pytest

from utils.convert.options import ImportOptions
from utils.errors import InputError


def sets_of(options):
    return options.sets_of(options.source)


def test_sets_and_names(tmp_path):
    options = ImportOptions(Path("a.json"), tmp_path / "mine")
    assert options.name == "mine"
    assert list(sets_of(options)) == ["train"]
    options = ImportOptions(Path("xml"), tmp_path, images=Path("photos"), train_list=Path("t"), val_list=Path("v"))
    assert sets_of(options)["val"] == (Path("xml"), Path("photos"), Path("v"))
    options = ImportOptions(Path("a.json"), tmp_path, images=Path("x"), val=Path("b.json"), val_images=Path("y"))
    assert sets_of(options) == {"train": (Path("a.json"), Path("x"), None), "val": (Path("b.json"), Path("y"), None)}


def test_folders_that_may_have_the_images(tmp_path):
    (tmp_path / "VOC/Annotations").mkdir(parents=True)
    (part,) = sets_of(ImportOptions(tmp_path / "VOC/Annotations", tmp_path / "out")).values()
    assert part.image_folders[0] == tmp_path / "VOC/Annotations"
    assert tmp_path / "VOC/JPEGImages" in part.image_folders
    (part,) = sets_of(ImportOptions(tmp_path / "a.json", tmp_path / "out")).values()
    assert part.image_folders[:2] == [tmp_path, tmp_path / "images"]
    (part,) = sets_of(ImportOptions(tmp_path / "a.json", tmp_path / "out", images=Path("x"))).values()
    assert part.image_folders == [Path("x")]


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--width", {"width": 350}),
        ("--height", {"height": 16}),
        ("--split", {"split": 1.1}),
        ("--split", {"split": 0.0}),
        ("--split", {"split": 0.5, "val": Path("val.json")}),
        ("--split", {"split": 0.5, "train_list": Path("t.txt"), "val_list": Path("v.txt")}),
        ("--val-list", {"val_list": Path("v.txt")}),
        ("--val-images", {"val_images": Path("photos")}),
        ("--name", {"name": "a/b"}),
        ("--name", {"name": "a #b"}),
        ("--name", {"name": " a"}),
        ("--output", {"output": Path(__file__).parent}),
        ("--output", {"output": Path(__file__)}),
    ],
)
def test_options_that_cannot_be_used(option, values, tmp_path):
    with pytest.raises(InputError, match=f"^{option}: ") as raised:
        ImportOptions(**{"source": tmp_path / "a.json", "output": tmp_path / "out", **values})
    assert "\n" not in str(raised.value)
