"""VOC XML files; broken ones are tested in test_bad_inputs.py."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.annotation_files import write_voc
from tests.helpers.dataset_files import write_image
from utils.convert import voc
from utils.convert.annotations import Problems
from utils.convert.locate import find_images, label_images
from utils.convert.options import ImportOptions
from utils.dataset.index import load_index


def read_labels(folder, class_names, **values):
    """Return the LabeledImages of a folder that has both images and XML files."""
    problems = Problems()
    options = ImportOptions(folder, folder / "out", **values)
    annotations = voc.read(options.sets_of(options.source)["train"], options, problems)
    image_folder, paths = find_images(annotations.images, [folder])
    labeled = label_images(annotations.images, paths, image_folder, class_names, problems)
    assert problems == Problems()
    return labeled


@pytest.mark.parametrize(("origin", "expected"), [(1, (0.0, 0.0, 0.5, 0.5)), (0, (1 / 64, 1 / 48, 0.5, 0.5))])
def test_origin(origin, expected, tmp_path):
    write_image(tmp_path / "a.png")
    write_voc(tmp_path / "a.xml", [("cat", (1, 1, 32, 24), False)])
    (image,) = read_labels(tmp_path, ("cat",), origin=origin)
    ((_, cx, cy, w, h),) = image.labels
    assert (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2) == pytest.approx(expected)


@pytest.mark.parametrize("size", [None, (0, 0)])
def test_files_without_size_use_that_of_the_image(size, tmp_path):
    write_image(tmp_path / "a.png", 64, 48)
    write_voc(tmp_path / "a.xml", [("cat", (1, 1, 32, 24), False)], size=size)
    (image,) = read_labels(tmp_path, ("cat",))
    assert image.labels == [(0, 0.25, 0.25, 0.5, 0.5)]


def test_real_boxes_differ_by_half_a_pixel_at_most(shared, tmp_path):
    """VOC stores whole pixels."""
    source = load_index(shared / "mask/val.txt", cache=False)
    expected = []
    for position in range(0, len(source), 10):
        image, labels = source.images[position], source.labels[position]
        width, height = source.sizes[position].tolist()
        shutil.copy(image, tmp_path)
        corners = np.hstack((labels[:, 1:3] - labels[:, 3:] / 2, labels[:, 1:3] + labels[:, 3:] / 2))
        pixels = np.rint(corners * (width, height, width, height)).astype(int) + np.array((1, 1, 0, 0))
        objects = [(str(int(row[0])), box, False) for row, box in zip(labels, pixels.tolist(), strict=True)]
        write_voc(tmp_path / f"{Path(image).stem}.xml", objects, size=(width, height))
        expected.append((corners, (width, height)))
    labeled = read_labels(tmp_path, ("0", "1"))
    assert len(labeled) == len(expected) == 16
    for image, (corners, size) in zip(labeled, expected, strict=True):
        labels = np.array(image.labels)
        boxes = np.hstack((labels[:, 1:3] - labels[:, 3:] / 2, labels[:, 1:3] + labels[:, 3:] / 2))
        assert (np.abs(boxes - corners) * np.tile(size, 2)).max() <= 0.5 + 1e-3
        assert not np.isnan(boxes).any()


@pytest.mark.parametrize(
    ("corners", "left", "noted"),
    [((1, 1, 32, 24), 0, False), ((0, 0, 32, 24), 0, True), ((8.5, 1, 32, 24), 8.5, True)],
)
def test_corners_decide_the_origin(corners, left, noted, tmp_path):
    write_voc(tmp_path / "a.xml", [("cat", corners, False)])
    problems = Problems()
    options = ImportOptions(tmp_path, tmp_path / "out")
    annotations = voc.read(options.sets_of(options.source)["train"], options, problems)
    assert annotations.images[0].boxes[0].corners[0] == left
    assert [("--origin 1" in note) for note in problems.notes] == [True] * noted
