"""Counts and findings of the checker."""

import numpy as np
import pytest
from PIL import Image

from tests.helpers.checked_sets import GOOD, check, items, write_good_sets, write_set
from tests.helpers.dataset_files import write_data
from utils.dataset.statistics import ERROR, WARNING


@pytest.fixture
def data(tmp_path):
    return write_good_sets(tmp_path)


def test_a_good_data_set(data):
    report = check(data)
    assert report.count(ERROR) == 0
    facts = report.sets["train"]
    assert (len(facts.index), facts.index.missing_labels, facts.empty_labels) == (12, 0, 0)
    assert facts.class_boxes.tolist() == [12, 12]
    assert facts.class_images.tolist() == [12, 12]
    assert sorted(map(tuple, facts.sizes[:2].tolist())) == [(24, 32), (48, 32)]
    assert not facts.too_small.any()
    # 24×32 is within a factor of 2 of 16,30; 48×32 of 33,23.
    assert not facts.unmatched.any()
    assert {(finding.level, finding.kind.split(":")[0]) for finding in report.findings} == {
        (WARNING, "train"),
        (WARNING, "val"),
    }
    assert items(report, "train: classes with fewer") == ["cat 12", "dog 12"]


def test_labels_missing_empty_malformed(data, tmp_path):
    (tmp_path / "train/0.txt").unlink()
    (tmp_path / "train/1.txt").write_text("", encoding="utf-8")
    (tmp_path / "train/2.txt").write_text(" \n\n", encoding="utf-8")
    (tmp_path / "train/3.txt").write_text("0 0.5 0.5 0.5\n0 0.5 0.5 0.5 0.5\n7 0.5 0.5 0.5 0.5\n", encoding="utf-8")
    (tmp_path / "train/4.txt").write_text("oops\n", encoding="utf-8")
    report = check(data)
    facts = report.sets["train"]
    # A file with only malformed lines does not count as empty.
    assert (facts.index.missing_labels, facts.empty_labels) == (1, 2)
    assert items(report, "train: images without label file") == [str(tmp_path / "train/0.png")]
    lines = items(report, "train: malformed labels")
    assert [line.split(": ")[0] for line in lines] == [
        *(f"{tmp_path / 'train/3.txt'}:{line_number}" for line_number in (1, 3)),
        f"{tmp_path / 'train/4.txt'}:1",
    ]
    assert report.count(ERROR) == 3
    assert facts.class_boxes.tolist() == [8, 7]


def test_images_missing_cut_short_and_damaged(data, tmp_path):
    (tmp_path / "train/0.png").unlink()
    content = (tmp_path / "train/1.png").read_bytes()
    (tmp_path / "train/1.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "train/2.png").write_text("not an image", encoding="utf-8")
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "train/damaged.jpg", quality=95)
    content = bytearray((tmp_path / "train/damaged.jpg").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 500] = np.random.default_rng(1).bytes(500)
    (tmp_path / "train/damaged.jpg").write_bytes(content)
    with (tmp_path / "train.txt").open("a", encoding="utf-8") as file:
        file.write("train/damaged.jpg\n")
    report = check(data)
    unreadable = items(report, "train: unreadable images")
    assert [line.split(": ")[0] for line in unreadable] == [str(tmp_path / f"train/{name}.png") for name in "012"]
    # The decoder returns pixels and a message.
    (damaged,) = items(report, "train: damaged images")
    assert damaged.startswith(f"{tmp_path / 'train/damaged.jpg'}: Corrupt JPEG data")
    assert report.count(ERROR) == 4


def test_identical_images_and_leakage(data, tmp_path):
    pixels = Image.open(tmp_path / "train/3.png")
    pixels.save(tmp_path / "val/copy.bmp")  # the pixels are compared, not the files
    (tmp_path / "val/copy.txt").write_text("0 0.5 0.5 0.5 0.5\n", encoding="utf-8")
    pixels = Image.open(tmp_path / "train/5.png")
    pixels.save(tmp_path / "train/twin.png", compress_level=1)
    (tmp_path / "train/twin.txt").write_text(GOOD, encoding="utf-8")
    rotated = Image.open(tmp_path / "train/7.png").transpose(Image.Transpose.ROTATE_270)
    rotated.save(tmp_path / "val/rotated.jpg", quality=80)
    with (tmp_path / "val.txt").open("a", encoding="utf-8") as file:
        file.write("val/copy.bmp\nval/rotated.jpg\n../" + tmp_path.name + "/train/9.png\n")
    with (tmp_path / "train.txt").open("a", encoding="utf-8") as file:
        file.write("train/twin.png\ntrain/11.png\n")
    report = check(data)
    leaks = [item.replace(f"{tmp_path}/", "") for item in items(report, "also in train")]
    assert leaks == [
        "val/copy.bmp = train/3.png (their labels differ, boxes: 1, 2)",
        f"../{tmp_path.name}/train/9.png is in both lists",
    ]
    assert report.count(ERROR) == 2
    twins = [item.replace(f"{tmp_path}/", "") for item in items(report, "train: identical images")]
    assert twins == ["train/5.png = train/twin.png", "train/11.png is listed 2 times"]
    (copy,) = items(report, "look like one in train")
    assert copy.replace(f"{tmp_path}/", "") == "val/rotated.jpg ≈ train/7.png (rotated by 90°)"


def test_a_label_file_of_two_images_is_an_error(data, tmp_path):
    Image.open(tmp_path / "train/3.png").rotate(90).save(tmp_path / "train/3.bmp")
    with (tmp_path / "train.txt").open("a", encoding="utf-8") as file:
        file.write("train/3.bmp\n")
    report = check(data)
    (line,) = items(report, "train: label files of several images")
    assert all(str(tmp_path / f"train/3.{suffix}") in line for suffix in ("txt", "png", "bmp"))
    assert report.count(ERROR) == 1


def test_images_with_an_exif_rotation(data, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(tmp_path / "train/3.png").save(tmp_path / "train/3.png", exif=exif)
    report = check(data)
    assert items(report, "train: images with an EXIF rotation") == [str(tmp_path / "train/3.png")]
    assert report.count(ERROR) == 0


def test_unusual_boxes(data, tmp_path):
    lines = [
        "0 0.5 0.5 0.03 0.5",  # 2.9×32 pixels: too small, and without a matching anchor
        "0 0.5 0.5 0.9 0.04",  # 86×2.6
        "0 0.5 0.5 0.25 0.25 0.9",  # a score
        "1 0.1 0.1 0.5 0.1 0.5 0.6 0.1 0.6",  # a polygon
        "1 0.5 0.5 0.25 0.5",
        "1 0.5 0.5 0.25 0.5",
    ]
    (tmp_path / "train/0.txt").write_text("\n".join(lines), encoding="utf-8")
    report = check(data)
    assert report.sets["train"].too_small.sum() == 2
    assert report.sets["train"].unmatched.sum() == 2
    small, unmatched = items(report, "train: boxes")
    assert small.startswith("2 of 28 boxes (7.1%)")
    assert unmatched.startswith("2 of 28 boxes (7.1%)")
    assert len(items(report, "train: label lines")) == 2
    (repeated,) = (item for item in items(report, "train: ") if item.startswith(f"{tmp_path / 'train/0.png'}: "))
    assert "1 box" in repeated


def test_class_without_boxes(tmp_path):
    write_set(tmp_path, "train", 3)
    report = check(write_data(tmp_path, names=("cat", "dog", "cow", "猫"), train="train.txt"))
    assert items(report, "train: classes without boxes") == ["cow", "猫"]
    assert items(report, "train: classes with fewer") == ["cat 3", "dog 3"]
    assert items(report, "val: no list") == [f"{tmp_path / 'small.data'} has val=None"]


def test_a_folder_is_listed_once(data, tmp_path, capsys):
    (tmp_path / "train/photo.heic").write_bytes(b"")
    check(write_data(tmp_path, train="train", val="val"))
    assert capsys.readouterr().err.count("photo.heic") == 1


def test_mask(shared, tmp_path):
    """Two images are in both lists; `md5sum` finds the same ones."""
    lists = {key: shared / "mask" / f"{key}.txt" for key in ("train", "val")}
    report = check(write_data(tmp_path, names=("mask", "no mask"), **lists))
    assert {key: facts.class_boxes.tolist() for key, facts in report.sets.items()} == {
        "train": [2439, 636],
        "val": [684, 148],
    }
    assert [line.split(" (")[0].replace(f"{shared}/mask/", "") for line in items(report, "also in train")] == [
        "val/0382.jpg = train/0383.jpg",
        "val/0585.jpg = train/0586.jpg",
    ]
    assert report.count(ERROR) == 2


@pytest.mark.slow
def test_helmet(shared, tmp_path):
    """Most validation images are rotated or mirrored copies of training images."""
    lists = {key: shared / "helmet" / f"{key}.txt" for key in ("train", "val")}
    report = check(write_data(tmp_path, names=("helmet", "head"), **lists))
    assert report.count(ERROR) == len(items(report, "also in train")) == 11
    assert len(items(report, "look like one in train")) > 330
