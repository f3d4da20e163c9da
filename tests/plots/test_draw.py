"""Drawing on images: colors, places of tags, text, images of every size."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.plots.draw import class_color, contrast_color, draw_detections, draw_labels, place_tag
from utils.plots.fonts import class_labels

COLORS = [(0, 0, 255), (0, 255, 0), (255, 85, 0), (0, 21, 212)]  # of classes 0, 1, 2 and 79
NAMES = ("person", "a name that is much longer than the others", "собака")
SIZES = [(1, 1), (2, 3), (7, 5), (20, 20), (40, 30), (64, 64), (352, 352), (20000, 20), (20, 20000), (4000, 3000)]


@pytest.fixture
def labels():
    return class_labels(NAMES)


def to_lab(colors):
    return cv2.cvtColor(np.array([colors], np.float32) / 255, cv2.COLOR_BGR2Lab)[0]


def relative_luminance(color):
    blue, green, red = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.array(color) / 255)
    return 0.0722 * blue + 0.7152 * green + 0.2126 * red


def test_colors_never_change():
    assert [class_color(class_id) for class_id in (0, 1, 2, 79)] == COLORS


def test_the_colors_of_eighty_classes_are_distinct():
    lab = to_lab([class_color(class_id) for class_id in range(80)])
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=2) + 1e9 * np.eye(80)
    assert distance.min() > 15  # a distance of 2.3 is just noticeable


def test_a_thousand_classes_have_different_colors_and_more_classes_repeat_them():
    assert len({class_color(class_id) for class_id in range(1000)}) == 1000
    assert len(class_color(10**9)) == 3


@given(st.integers(0, 2000))
def test_text_is_readable_on_every_color(class_id):
    color = class_color(class_id)
    darker, lighter = sorted((relative_luminance(color), relative_luminance(contrast_color(color))))
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5  # the WCAG 2 minimum for text


coordinates = st.floats(-10, 500)


@given(
    box=st.tuples(coordinates, coordinates, coordinates, coordinates),
    size=st.tuples(st.integers(1, 300), st.integers(1, 200)),
    room=st.tuples(st.integers(0, 300), st.integers(0, 200)),
    taken=st.lists(st.tuples(*[st.integers(0, 300)] * 4), max_size=5),
)
def test_a_tag_is_placed_inside_the_image(box, size, room, taken):
    image_size = (size[0] + room[0], size[1] + room[1])
    x1, y1, x2, y2 = place_tag(box, size, image_size, np.array(taken).reshape(-1, 4))
    assert (x2 - x1, y2 - y1) == size
    assert x1 >= 0
    assert y1 >= 0
    assert x2 <= image_size[0]
    assert y2 <= image_size[1]


def test_a_tag_is_above_its_box_or_inside_if_there_is_no_room():
    taken = np.empty((0, 4))
    assert place_tag((100, 100, 200, 200), (50, 20), (300, 300), taken) == (100, 80, 150, 100)
    assert place_tag((100, 5, 200, 200), (50, 20), (300, 300), taken) == (100, 0, 150, 20)


def test_tags_of_identical_boxes_do_not_overlap():
    taken = np.empty((0, 4))
    for _ in range(6):
        place = place_tag((100, 100, 200, 200), (45, 20), (300, 300), taken)
        overlap = np.minimum(place[2:], taken[:, 2:]) - np.maximum(place[:2], taken[:, :2])
        assert not (overlap > 0).all(1).any()
        taken = np.vstack((taken, place))


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_every_size_of_image_can_be_drawn_on(labels, width, height):
    image = np.full((height, width, 3), 128, np.uint8)
    before = image.copy()
    detections = [[0, 0, width, height, 0.9, 0], [width * 0.2, height * 0.2, width * 0.6, height * 0.7, 0.5, 1]]
    drawn = draw_detections(image, np.array(detections), labels)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert np.array_equal(image, before)
    # The outline of a box as large as the image lies on the image's edge.
    assert tuple(drawn[-1, 0].tolist()) == class_color(0)


def test_without_detections_the_image_is_unchanged(labels):
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    assert np.array_equal(draw_detections(image, np.empty((0, 6)), labels), image)


def test_lines_and_tags_grow_with_the_image(labels):
    def drawn_pixels(side):
        image = np.zeros((side, side, 3), np.uint8)
        drawn = draw_detections(image, np.array([[side / 4, side / 4, side / 2, side / 2, 0.9, 0]]), labels)
        return drawn.any(2).mean()

    assert drawn_pixels(4000) == pytest.approx(drawn_pixels(1000), rel=0.25)


def test_only_the_box_and_its_tag_are_drawn(labels):
    image = np.zeros((400, 400, 3), np.uint8)
    drawn = draw_detections(image, np.array([[100, 200, 300, 350, 0.9, 0]]), labels).any(2)
    assert not drawn[:170].any()
    assert not drawn[352:].any()
    assert not drawn[:, :98].any()
    assert not drawn[210:340, 110:290].any()
    assert drawn[200, 100:300].all()


def test_the_first_detection_is_on_top(labels):
    image = np.zeros((200, 200, 3), np.uint8)
    same_box = [[50, 50, 150, 150, 0.9, 0], [50, 50, 150, 150, 0.5, 1]]
    drawn = draw_detections(image, np.array(same_box), labels)
    assert tuple(drawn[100, 50].tolist()) == class_color(0)


def test_a_long_name_is_shortened_and_keeps_its_score(labels):
    image = np.full((60, 90, 3), 128, np.uint8)
    drawn = draw_detections(image, np.array([[10, 30, 80, 55, 0.9, 1]]), labels)
    background = class_color(1)
    (rows, columns) = np.nonzero((drawn == background).all(2))
    assert columns.max() < 90
    text = (drawn == contrast_color(background)).all(2)[rows.min() : 30]
    assert text[:, 45:].any()


def test_labels_are_drawn_like_detections_without_a_score(labels):
    image = np.zeros((200, 100, 3), np.uint8)
    drawn = draw_labels(image, np.array([[2, 0.5, 0.5, 0.4, 0.2], [0, 0.9, 0.9, 0.4, 0.4]]), labels)
    expected = np.array([[30, 80, 70, 120, np.nan, 2], [70, 140, 100, 200, np.nan, 0]])  # clipped to the image
    assert np.array_equal(drawn, draw_detections(image, expected, labels))
    assert not np.array_equal(drawn, draw_detections(image, np.nan_to_num(expected, nan=0.5), labels))
