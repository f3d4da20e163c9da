"""Drawing on images: colors, places of tags, text, images of every size."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.plots.draw import class_color, contrast_color, draw_detections, draw_labels, place_tag, small_boxes
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
    obstacles=st.lists(st.tuples(*[st.integers(0, 300)] * 4), max_size=5),
)
def test_a_tag_is_inside_the_image_and_off_the_obstacles(box, size, room, obstacles):
    image_size = (size[0] + room[0], size[1] + room[1])
    place = place_tag(box, size, image_size, np.array(obstacles).reshape(-1, 4))
    if place is None:
        assert obstacles
        return
    x1, y1, x2, y2 = place
    assert (x2 - x1, y2 - y1) == size
    assert x1 >= 0
    assert y1 >= 0
    assert x2 <= image_size[0]
    assert y2 <= image_size[1]
    for left, top, right, bottom in obstacles:
        assert x2 <= left or x1 >= right or y2 <= top or y1 >= bottom or right <= left or bottom <= top


def test_a_tag_is_above_its_box_or_inside_if_there_is_no_room():
    none = np.empty((0, 4))
    assert place_tag((100, 100, 200, 200), (50, 20), (300, 300), none) == (100, 80, 150, 100)
    assert place_tag((100, 5, 200, 200), (50, 20), (300, 300), none) == (100, 0, 150, 20)


def test_a_tag_is_below_or_next_to_a_box_that_it_must_not_cover():
    box = (100, 5, 130, 25)
    assert place_tag(box, (50, 20), (300, 300), np.array([box])) == (100, 25, 150, 45)
    assert place_tag(box, (50, 20), (300, 40), np.array([box])) == (130, 5, 180, 25)
    assert place_tag(box, (50, 20), (140, 40), np.array([box])) == (50, 5, 100, 25)
    assert place_tag(box, (50, 30), (60, 40), np.array([[0, 0, 60, 40]])) is None


def test_boxes_are_small_compared_with_the_tag():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 100, 100], [5, 5, 5, 90]])
    assert small_boxes(boxes, (20, 10)).tolist() == boxes[[0, 2]].tolist()
    assert small_boxes(boxes, (2, 2)).tolist() == boxes[[2]].tolist()
    assert small_boxes(boxes, (100, 100)).tolist() == boxes.tolist()


tiny = st.tuples(st.integers(0, 180), st.integers(0, 130), st.integers(4, 20), st.integers(4, 20), st.integers(0, 2))


@given(st.lists(tiny, max_size=30))
def test_tags_never_cover_a_small_box(rows):
    labels = class_labels(NAMES)
    image = np.zeros((150, 200, 3), np.uint8)
    detections = np.array([(x, y, x + w, y + h, 0.9, label) for x, y, w, h, label in rows]).reshape(-1, 6)
    with_tags, without = draw_detections(image, detections, labels), draw_detections(image, detections, None)
    for x, y, w, h, _ in rows:
        assert np.array_equal(with_tags[y : y + h, x : x + w], without[y : y + h, x : x + w])


def test_a_small_box_gets_a_smaller_tag_and_none_if_there_is_no_place(labels):
    def tag_height(side, size=1000):
        image = np.zeros((size, size, 3), np.uint8)
        box = [size / 2, size / 2, size / 2 + side, size / 2 + side, 0.9, 0]
        drawn = draw_detections(image, np.array([box]), labels)
        return (drawn != draw_detections(image, np.array([box]), None)).any((1, 2)).sum()

    assert tag_height(400) == tag_height(100)
    assert 0 < tag_height(20) < 0.75 * tag_height(400)
    full = np.array([[x, y, x + 20, y + 20, 0.9, 0] for x in range(0, 100, 20) for y in range(0, 100, 20)])
    image = np.zeros((100, 100, 3), np.uint8)
    assert np.array_equal(draw_detections(image, full, labels), draw_detections(image, full, None))


def test_the_line_width_can_be_chosen_but_lines_of_small_boxes_stay_thin():
    image = np.zeros((400, 400, 3), np.uint8)
    large, small = [[100, 100, 300, 300, 0.9, 0]], [[100, 100, 110, 110, 0.9, 0]]
    line = draw_detections(image, np.array(large), None, line_width=9)[200, :, 2] == 255
    assert line.sum() == 2 * 9
    assert np.array_equal(
        draw_detections(image, np.array(small), None, line_width=9), draw_detections(image, np.array(small), None)
    )


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
