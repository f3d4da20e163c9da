"""Real people's data sets, reduced to the part that was read wrong: what is right for each of them."""

import os
import re
import shutil

import pytest

from tests.helpers.checked_sets import check, items
from utils.config import read_config
from utils.dataset.images import read_header, read_image
from utils.dataset.index import open_list
from utils.errors import InputError

CENTER = [[0, 0.5, 0.5, 0.5, 0.5]]  # most cases have one box in the middle


@pytest.fixture
def case(shared, tmp_path):
    """Copy a case, and return its folder."""

    def copy(name):
        if not (shared / "cases" / name).exists():
            pytest.skip("needs the folder cases of the reference data")
        return shutil.copytree(shared / "cases" / name, tmp_path / name, symlinks=True)

    return copy


def load(folder, key="train"):
    return open_list(read_config(folder / "t.data"), key)


def rows(index, position=0):
    return index.labels[position].tolist()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pose_2d_keypoints", CENTER),
        ("track_id_only", CENTER),
        ("bom_crlf_tabs", [[0, 0.5, 0.5, 0.5, 0.5], [1, 0.25, 0.25, 0.1, 0.1]]),
        ("duplicate_class_names", [[0, 0.5, 0.5, 0.5, 0.5], [2, 0.2, 0.2, 0.2, 0.2]]),
        ("exif_90_darknet_labels", [[0, 0.15625, 0.208333, 0.1875, 0.25]]),
        ("angle_sixth_column", [[0, 0.5, 0.5, 0.5, 0.1]]),
        ("edge_1.0004", [[0, 0.304017, 0.5, 0.608034, 1]]),
        ("label_beside_and_in_labels", CENTER),
    ],
)
def test_boxes(case, name, expected):
    assert rows(load(case(name))) == [pytest.approx(row, abs=1e-3) for row in expected]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pose_2d_keypoints", "keypoints"),
        ("track_id_only", "sixth value"),
        ("angle_sixth_column", "angle"),
        ("duplicate_class_names", r"t\.names:3: .*'cat'"),
        ("same_stem_two_formats", r"a\.txt .*a\.jpg and .*a\.png"),
        ("label_beside_and_in_labels", r"images/a\.txt"),
        ("no_label_found", r"pics/a\.txt"),
    ],
)
def test_what_was_assumed_is_said(case, capsys, name, words):
    load(case(name))
    assert re.search(rf"^warning: .*{words}", capsys.readouterr().err, re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("track_id_column", r"a\.txt:1: "),
        ("centre_outside", r"a\.txt:1: "),
        ("data_42_classes_41_names", r"t\.data:11: classes: .*41.*t\.names.*'42'"),
        ("list_utf16_powershell", r"train\.txt: .*UTF-16"),
    ],
)
def test_refused_with_a_reason(case, name, message):
    with pytest.raises(InputError, match=message):
        load(case(name))


def test_a_data_file_of_cvat(case):
    with pytest.raises(InputError, match=r"obj\.data: .*tools/import_dataset\.py"):
        read_config(case("cvat_obj_data") / "obj.data")


def test_two_images_with_one_label_file_are_an_error_of_the_checker(case):
    (finding,) = items(check(case("same_stem_two_formats") / "t.data"), "train: label files of several images")
    assert re.search(r"a\.jpg and .*a\.png", finding)


def test_an_image_with_an_exif_rotation_is_a_warning_of_the_checker(case):
    (finding,) = items(check(case("exif_90_darknet_labels") / "t.data"), "train: images with an EXIF rotation")
    assert finding.endswith("a.jpg")


@pytest.mark.parametrize(("name", "file"), [("xmp_orientation_jpg", "a.jpg"), ("xmp_orientation_webp", "a.webp")])
def test_an_orientation_in_xmp_does_not_count(case, name, file):
    path = case(name) / "photos" / file
    assert read_header(path).size == read_image(path).shape[1::-1]


def test_a_label_file_in_upper_case_is_found(case, capsys):
    index = load(case("label_case_mismatch"))
    assert len(rows(index)) == 1
    assert not capsys.readouterr().err


def test_a_file_name_that_begins_like_a_comment(case):
    index = load(case("hash_file_name"))
    assert [os.path.basename(path) for path in index.images] == ["#1.jpg", "2.jpg"]
    assert [rows(index, position) for position in range(2)] == [CENTER, CENTER]


def test_folders_behind_links_are_searched(case):
    folder = case("symlinked_subfolder")
    if not (folder / "images/more").is_symlink():  # a copy without links
        (folder / "images/more").unlink()
        (folder / "images/more").symlink_to("../elsewhere")
    index = load(folder)
    assert sorted(os.path.basename(path) for path in index.images) == ["a.jpg", "b.jpg"]
    assert [rows(index, position) for position in range(2)] == [CENTER, CENTER]


def test_formats(case):
    folder = case("folder_of_other_formats")
    images = sorted(path for path in folder.iterdir())
    assert len(images) == 7
    for path in images:
        assert read_image(path).shape == (*read_header(path).size[::-1], 3), path.name


def test_unusual_pixels(case):
    folder = case("float_tiff")
    assert read_image(folder / "12bit.png").any()
    with pytest.raises(InputError, match=r"float01\.tif: "):
        read_image(folder / "float01.tif")


def test_a_cache_of_other_content_with_the_same_size_and_time(case):
    """As when an archive, which restores the times of its files, is unpacked over another one."""
    folder, archives = case("stale_cache_same_mtime"), case("stale_cache_zip")
    classes = []
    for name in ("v1", "v2"):
        shutil.unpack_archive(archives / f"{name}.zip", folder)
        os.utime(folder / "a.txt", (315532800, 315532800))
        classes.append(rows(load(folder))[0][0])
    assert classes == [0, 1]
