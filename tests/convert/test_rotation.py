"""Boxes of images with an EXIF rotation."""

import cv2
import numpy as np
import pytest
from PIL import Image

from utils.convert.annotations import AnnotatedImage, Box, Problems
from utils.convert.locate import label_images
from utils.convert.rotation import turn
from utils.dataset.images import read_image

STORED = (80, 60)
BOX = (10, 20, 30, 50)  # x1, y1, x2, y2 in the stored image


def write_rotated(path, orientation, size=STORED, box=BOX):
    """Write a black image with a white box, and an EXIF orientation."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


def white_box(path):
    """Corners of the white box, and (width, height), of the decoded image."""
    image = read_image(path)
    x, y, w, h = cv2.boundingRect((image[..., 0] > 128).astype(np.uint8))
    return (x, y, x + w, y + h), image.shape[1::-1]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turn_is_what_the_decoder_does(tmp_path, orientation):
    write_rotated(tmp_path / "a.png", orientation)
    assert turn(BOX, STORED, orientation) == white_box(tmp_path / "a.png")[0]


def label(folder, entries):
    """Label images; entries: (name, annotated size). Return the labels, and the notes."""
    images = [AnnotatedImage((name,), size, [Box("cat", BOX, name)], name) for name, size in entries]
    problems = Problems()
    labeled = label_images(images, [folder / name for name, _ in entries], folder, ("cat",), problems)
    assert not problems.dropped
    return [image.labels[0][1:] for image in labeled], problems.notes


def fractions(corners, size):
    x1, y1, x2, y2 = corners
    return pytest.approx(
        ((x1 + x2) / 2 / size[0], (y1 + y2) / 2 / size[1], (x2 - x1) / size[0], (y2 - y1) / size[1]), abs=0.01
    )


@pytest.mark.parametrize("orientation", range(5, 9))
def test_the_annotated_size_shows_which_image_was_annotated(tmp_path, orientation):
    write_rotated(tmp_path / "a.png", orientation)
    (as_stored,), (note,) = label(tmp_path, [("a.png", STORED)])
    assert as_stored == fractions(*white_box(tmp_path / "a.png"))
    assert "1 images have an EXIF rotation (first a.png)" in note
    (as_displayed,), _ = label(tmp_path, [("a.png", STORED[::-1])])
    assert as_displayed == fractions(BOX, STORED[::-1])


@pytest.mark.parametrize(("other", "turned"), [(STORED, True), (STORED[::-1], False), (None, False)])
def test_the_other_images_of_the_set_decide(tmp_path, other, turned):
    write_rotated(tmp_path / "half.png", 3)
    entries = [("half.png", STORED)]
    if other:
        write_rotated(tmp_path / "quarter.png", 6)
        entries.append(("quarter.png", other))
    labels, (note,) = label(tmp_path, entries)
    expected = white_box(tmp_path / "half.png")[0] if turned else BOX
    assert labels[0] == fractions(expected, STORED)
    assert f"{len(entries)} images have an EXIF rotation" in note


def test_without_rotation_nothing_is_said(tmp_path):
    write_rotated(tmp_path / "a.png", 1)
    assert label(tmp_path, [("a.png", STORED)]) == ([fractions(BOX, STORED)], [])
