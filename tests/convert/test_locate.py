"""Images of annotations, their boxes as labels, and the split."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.dataset_files import write_image
from utils.convert.annotations import AnnotatedImage, Box, Problems
from utils.convert.locate import MIN_SIDE, clip_box, find_images, label_images
from utils.dataset.labels import format_labels, parse_labels
from utils.errors import InputError


@given(
    size=st.tuples(st.integers(1, 10_000), st.integers(1, 10_000)),
    fractions=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_a_box_is_the_same_after_its_label_file(size, fractions):
    x1, x2 = sorted(fractions[:2])
    y1, y2 = sorted(fractions[2:])
    if min(x2 - x1, y2 - y1) < 1.01 * MIN_SIDE:
        return
    box, excess = clip_box((x1 * size[0], y1 * size[1], x2 * size[0], y2 * size[1]), size)
    assert excess < 1e-9 * max(size)
    ((class_id, cx, cy, w, h),) = parse_labels(format_labels([(3, *box)])).labels.astype(float)
    assert class_id == 3
    assert np.abs(np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]) - (x1, y1, x2, y2)).max() < 1e-6


@given(st.tuples(*[st.floats(-300, 300)] * 4))
def test_a_box_is_cut_to_its_image(corners):
    (cx, cy, w, h), excess = clip_box(corners, (100, 50))
    if min(w, h) < MIN_SIDE:
        return
    assert min(cx - w / 2, cy - h / 2) >= -1e-12
    assert max(cx + w / 2, cy + h / 2) <= 1 + 1e-12
    assert (excess > 0) == (min(corners[:2]) < 0 or corners[2] > 100 or corners[3] > 50)


def test_resized_images_keep_their_boxes(tmp_path):
    write_image(tmp_path / "a.png", 50, 40)
    image = AnnotatedImage(("a.png",), (100, 80), [Box("cat", (0, 0, 50, 40), "here")], "here")
    problems = Problems()
    (labeled,) = label_images([image], [tmp_path / "a.png"], tmp_path, ("cat",), problems)
    assert labeled.labels == [(0, 0.25, 0.25, 0.5, 0.5)]
    assert not problems.dropped


def test_images_are_searched_for_in_folders(tmp_path):
    write_image(tmp_path / "images/b.png")
    images = [AnnotatedImage(names, None, [], "here") for names in (("a.png",), ("x.png", "b.png"))]
    folder, paths = find_images(images, [tmp_path / "none", tmp_path, tmp_path / "images"])
    assert (folder, paths) == (tmp_path / "images", [tmp_path / "images/a.png", tmp_path / "images/b.png"])
    with pytest.raises(InputError, match="--images"):
        find_images(images, [tmp_path / "none", tmp_path])
