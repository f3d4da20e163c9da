"""Annotations of real people, reduced to the part that was read wrong: what is right for each of them."""

import re
import shutil

import pytest

from utils.config import read_config
from utils.convert.importer import import_dataset
from utils.convert.options import ImportOptions
from utils.dataset.index import open_list
from utils.errors import RunError

MIDDLE = (0.5, 0.5, 0.5, 0.5)  # most cases have one box, 80 60 240 180 in 320x240
CORNER = (0.09375, 0.125, 0.125, 0.166667)


@pytest.fixture
def run(shared, tmp_path, capsys):
    """Import a case; return {class name: boxes}, the exit status and what was printed."""

    def run(name, **options):
        folder = shared / "cases" / name
        if not folder.exists():
            pytest.skip("needs the folder cases of the reference data")
        folder = shutil.copytree(folder, tmp_path / name)
        source = next(path for path in (folder / "a.json", folder / "xml") if path.exists())
        output = tmp_path / "out"
        values = {"images": folder / "photos", "split": 1, **options}
        status = import_dataset(ImportOptions(source=source, output=output, **values))
        config = read_config(output / "out.data")
        boxes = {class_name: [] for class_name in config.class_names}
        for rows in open_list(config, "train").labels:
            for class_id, *box in rows.tolist():
                boxes[config.class_names[int(class_id)]].append(tuple(box))
        printed = capsys.readouterr()
        return boxes, status, printed.out + printed.err

    return run


def approx(boxes):
    return {name: [pytest.approx(box, abs=1e-4) for box in rows] for name, rows in boxes.items()}


@pytest.mark.parametrize(
    ("name", "expected", "words"),
    [
        ("coco_annotation_twice", {"cat": [MIDDLE]}, "twice"),
        ("coco_category_id_text", {"LP": [MIDDLE]}, ""),
        ("coco_ignore_flag", {"cat": [MIDDLE]}, "1 boxes marked with iscrowd or ignore"),
        ("coco_image_id_text", {"cat": [MIDDLE]}, ""),
        ("coco_label_studio_mixed_slash", {"cat": [MIDDLE]}, ""),
        ("coco_label_studio_path", {"cat": [MIDDLE]}, ""),
        ("coco_roboflow_root_category", {"fish": [MIDDLE], "ray": [CORNER]}, "'fishes' is not a class"),
        ("coco_roboflow_root_same_name", {"helmet": [MIDDLE]}, "'helmet' is not a class"),
        ("coco_same_file_twice", {"cat": [MIDDLE, CORNER]}, "annotated again"),
        ("coco_segmentation_only", {"cat": [MIDDLE]}, "segmentation"),
        ("coco_xyxy_boxes", {"cat": [(0.625, 0.625, 0.75, 0.75), (0.125, 0.166667, 0.1875, 0.25)]}, "corners"),
        ("voc_empty_object", {"head": [MIDDLE]}, "1 empty"),
        ("voc_filename_vs_own_name", {"cat": [MIDDLE]}, r"1\.jpg .*frame_000001\.jpg"),
        ("voc_labelbox_polygon", {"cat": [MIDDLE]}, "polygon"),
        ("voc_list_with_extension", {"cat": [MIDDLE, MIDDLE]}, ""),
        ("voc_parts_first", {"person": [MIDDLE]}, ""),
        ("voc_roboflow_dots", {"cat": [MIDDLE]}, ""),
        ("voc_two_xml_one_image", {"cat": [MIDDLE], "dog": [CORNER]}, "annotated again"),
        ("voc_utf16", {"猫": [MIDDLE]}, ""),
    ],
)
def test_boxes_and_what_is_said(run, name, expected, words):
    boxes, status, printed = run(name)
    assert status == 0
    assert boxes == approx(expected)
    assert re.search(words, printed)


def test_a_list_of_image_names(run, shared):
    boxes, _, _ = run("voc_list_with_extension", train_list=shared / "cases/voc_list_with_extension/train.txt")
    assert boxes == approx({"cat": [MIDDLE, MIDDLE]})


def test_crowds_only(run):
    with pytest.raises(RunError, match=r"2 boxes .*--keep-crowds"):
        run("coco_all_crowd_cvat_masks")


def test_crowds_are_kept_on_request(run):
    boxes, status, _ = run("coco_all_crowd_cvat_masks", keep_crowds=True)
    assert (status, len(boxes["cat"])) == (0, 2)


def test_names_that_differ_in_case(run):
    boxes, _, printed = run("voc_case_of_names")
    assert {name: len(rows) for name, rows in boxes.items()} == {"Helmet": 1, "helmet": 2}
    assert re.search("warning: .*'Helmet'.*'helmet'", printed)


def test_corners_counted_from_0(run):
    boxes, _, printed = run("voc_cvat_floats_zero_based")
    assert boxes["cat"][0] == pytest.approx((5 / 320, 5 / 240, 10 / 320, 10 / 240))
    assert "--origin 1" in printed


@pytest.mark.parametrize("name", ["voc_exif_180", "voc_exif_90_square"])
def test_rotated_images_are_named(run, name):
    boxes, _, printed = run(name)
    assert len(boxes["red"]) == 1
    assert re.search(r"note: .*1 images have an EXIF rotation \(first .*a\.xml\)", printed)


@pytest.mark.parametrize("name", ["xmp_orientation_jpg", "xmp_orientation_webp"])
def test_an_orientation_in_xmp_is_not_applied(run, name):
    boxes, _, printed = run(name)
    assert boxes["red"] == [pytest.approx((0.15625, 0.208333, 0.1875, 0.25), abs=1e-4)]
    assert "rotation" not in printed
