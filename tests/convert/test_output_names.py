"""Images that would have the same label file."""

from pathlib import Path, PurePath

import pytest
from PIL import Image

from tests.helpers import yolo_exports as exports
from utils.convert.annotations import Problems
from utils.convert.importer import import_dataset
from utils.convert.locate import LabeledImage
from utils.convert.options import ImportOptions
from utils.convert.output_names import separate_names


def images_of(*names):
    return [LabeledImage(Path("photos", name), PurePath(name), []) for name in names]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("a.jpg", "a.png"), ["a.jpg", "a-2.png"]),
        (("a.png", "a.jpg", "a.bmp"), ["a.png", "a-2.jpg", "a-3.bmp"]),
        (("a.jpg", "a.png", "a-2.jpg"), ["a.jpg", "a-3.png", "a-2.jpg"]),
        (("x/a.jpg", "A.jpg", "a.PNG"), ["x/a.jpg", "A.jpg", "a-2.PNG"]),
        (("images/a.jpg", "JPEGImages/a.jpg"), ["images/a.jpg", "JPEGImages/a-2.jpg"]),
    ],
)
def test_the_second_image_gets_another_name(names, expected):
    problems = Problems()
    images = separate_names({"train": images_of(*names), "val": images_of("a.bmp")}, "link", problems)
    assert [str(image.name) for image in images["train"]] == expected
    assert [str(image.name) for image in images["val"]] == ["a.bmp"]
    assert len(problems.changed) == sum(a != b for a, b in zip(names, expected, strict=True))
    assert problems.dropped == []


def test_the_second_image_is_dropped_in_place():
    problems = Problems()
    images = separate_names({"train": images_of("a.jpg"), "val": images_of("a.png", "b.png")}, "in-place", problems)
    assert [image.path.name for image in images["train"] + images["val"]] == ["a.jpg", "b.png"]
    (line,) = problems.dropped
    assert "a.png" in line
    assert "a.jpg" in line


def test_images_that_stay_where_they_are_are_not_renamed(tmp_path, capsys):
    photos = exports.labelimg(tmp_path / "photos", [("train", "a", [(0, 0.5, 0.5, 0.25, 0.25)])], ("cat",))
    Image.open(photos / "a.png").save(photos / "a.bmp")
    assert import_dataset(ImportOptions(photos, tmp_path / "out", place="auto", split=1)) == 0
    assert (tmp_path / "out/out-train.txt").read_text() == f"{photos / 'a.bmp'}\n{photos / 'a.png'}\n"
    assert "a-2" not in capsys.readouterr().err
    assert not (tmp_path / "out/problems.txt").exists()
