"""Drawing: colours, labels' places and text, fonts, images of every size."""

import cv2
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from hypothesis import given
from hypothesis import strategies as st

from utils.errors import InputError
from utils.plots import fonts
from utils.plots.draw import class_colour, contrast_colour, draw_detections, place_label
from utils.plots.fonts import ClassLabel, class_labels, default_font, find_font

COLOURS = [(0, 0, 255), (0, 255, 0), (255, 85, 0), (0, 21, 212)]  # of classes 0, 1, 2 and 79
NAMES = ("person", "a name that is much longer than the others", "собака")
SIZES = [(1, 1), (2, 3), (7, 5), (20, 20), (40, 30), (64, 64), (352, 352), (20000, 20), (20, 20000), (4000, 3000)]


@pytest.fixture
def labels():
    return class_labels(NAMES)


@pytest.fixture
def no_system_fonts(monkeypatch):
    monkeypatch.setattr(fonts, "system_fonts", lambda: [])


@pytest.fixture
def dog_font(tmp_path):
    """A font with the characters 犬 and 猫, both a square, and no others."""
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for corner in ((100, 800), (900, 800), (900, 0)):
        pen.lineTo(corner)
    pen.closePath()
    glyphs = {".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(list(glyphs))
    builder.setupCharacterMap({ord("犬"): "square", ord("猫"): "square"})
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupOS2(sTypoAscender=900, sTypoDescender=-100)
    builder.setupNameTable({"familyName": "Dog", "styleName": "Regular"})
    builder.setupPost()
    path = tmp_path / "dog.ttf"
    builder.save(path)
    return str(path)


def to_lab(colours):
    return cv2.cvtColor(np.array([colours], np.float32) / 255, cv2.COLOR_BGR2Lab)[0]


def relative_luminance(colour):
    blue, green, red = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.array(colour) / 255)
    return 0.0722 * blue + 0.7152 * green + 0.2126 * red


def test_colours_never_change():
    assert [class_colour(number) for number in (0, 1, 2, 79)] == COLOURS


def test_the_colours_of_eighty_classes_can_be_told_apart():
    lab = to_lab([class_colour(number) for number in range(80)])
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=2) + 1e9 * np.eye(80)
    assert distance.min() > 15  # 2.3 is just noticeable


def test_a_thousand_classes_have_a_thousand_colours_and_more_classes_have_some():
    assert len({class_colour(number) for number in range(1000)}) == 1000
    assert len(class_colour(10**9)) == 3


@given(st.integers(0, 2000))
def test_text_can_be_read_on_every_colour(number):
    colour = class_colour(number)
    darker, lighter = sorted((relative_luminance(colour), relative_luminance(contrast_colour(colour))))
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5  # what WCAG 2 asks of text


coordinates = st.floats(-10, 500)


@given(
    box=st.tuples(coordinates, coordinates, coordinates, coordinates),
    size=st.tuples(st.integers(1, 300), st.integers(1, 200)),
    room=st.tuples(st.integers(0, 300), st.integers(0, 200)),
    taken=st.lists(st.tuples(*[st.integers(0, 300)] * 4), max_size=5),
)
def test_a_label_is_placed_inside_the_image(box, size, room, taken):
    image_size = (size[0] + room[0], size[1] + room[1])
    x1, y1, x2, y2 = place_label(box, size, image_size, np.array(taken).reshape(-1, 4))
    assert (x2 - x1, y2 - y1) == size
    assert x1 >= 0
    assert y1 >= 0
    assert x2 <= image_size[0]
    assert y2 <= image_size[1]


def test_a_label_stands_on_its_box_and_inside_where_there_is_no_room():
    nothing = np.empty((0, 4))
    assert place_label((100, 100, 200, 200), (50, 20), (300, 300), nothing) == (100, 80, 150, 100)
    assert place_label((100, 5, 200, 200), (50, 20), (300, 300), nothing) == (100, 0, 150, 20)


def test_labels_of_boxes_at_the_same_place_do_not_cover_each_other():
    taken = np.empty((0, 4))
    for _ in range(6):
        place = place_label((100, 100, 200, 200), (45, 20), (300, 300), taken)
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
    # The outline of the box that is the whole image lies on its edge.
    assert tuple(drawn[-1, 0].tolist()) == class_colour(0)


def test_nothing_found_leaves_the_picture_as_it_is(labels):
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    assert np.array_equal(draw_detections(image, np.empty((0, 6)), labels), image)


def test_lines_and_labels_grow_with_the_image(labels):
    def drawn_pixels(side):
        image = np.zeros((side, side, 3), np.uint8)
        drawn = draw_detections(image, np.array([[side / 4, side / 4, side / 2, side / 2, 0.9, 0]]), labels)
        return drawn.any(2).mean()

    assert drawn_pixels(4000) == pytest.approx(drawn_pixels(1000), rel=0.25)


def test_only_the_box_and_its_label_are_drawn(labels):
    image = np.zeros((400, 400, 3), np.uint8)
    drawn = draw_detections(image, np.array([[100, 200, 300, 350, 0.9, 0]]), labels).any(2)
    assert not drawn[:170].any()
    assert not drawn[352:].any()
    assert not drawn[:, :98].any()
    assert not drawn[210:340, 110:290].any()
    assert drawn[200, 100:300].all()


def test_the_better_detection_is_on_top(labels):
    image = np.zeros((200, 200, 3), np.uint8)
    same_box = [[50, 50, 150, 150, 0.9, 0], [50, 50, 150, 150, 0.5, 1]]
    drawn = draw_detections(image, np.array(same_box), labels)
    assert tuple(drawn[100, 50].tolist()) == class_colour(0)


def test_a_long_name_is_cut_short_and_keeps_its_score(labels):
    image = np.full((60, 90, 3), 128, np.uint8)
    drawn = draw_detections(image, np.array([[10, 30, 80, 55, 0.9, 1]]), labels)
    background = class_colour(1)
    (rows, columns) = np.nonzero((drawn == background).all(2))
    assert columns.max() < 90
    text = (drawn == contrast_colour(background)).all(2)[rows.min() : 30]
    assert text[:, 45:].any()


def test_latin_greek_and_cyrillic_need_no_font_of_the_system(no_system_fonts, capsys):
    names = ("Größe", "γάτα", "собака", "čeština", "e\u0301tage", "Tiếng Việt")
    assert [label.font for label in class_labels(names)] == [default_font()] * len(names)
    assert capsys.readouterr().err == ""


def test_a_name_without_a_font_becomes_its_number_with_one_warning(no_system_fonts, capsys):
    labels = class_labels(("猫", "dog", "한국어", "\u200b"))
    assert [label.text for label in labels] == ["class 0", "dog", "class 2", "class 3"]
    warning = capsys.readouterr().err
    assert warning.count("warning:") == 1
    assert "3 of 4 class names (the first: '猫')" in warning
    assert "--font" in warning


def test_a_font_of_the_system_is_found_by_its_characters(dog_font, monkeypatch, tmp_path):
    damaged = tmp_path / "damaged.ttf"
    damaged.write_bytes(b"no font")
    monkeypatch.setattr(fonts, "system_fonts", lambda: [str(damaged), dog_font])
    assert find_font("猫 犬") == dog_font
    assert find_font("猫 cat") is None


def test_the_users_font_comes_first_and_others_fill_its_gaps(dog_font, no_system_fonts):
    dog, cat = class_labels(("犬", "cat"), dog_font)
    assert dog == ClassLabel("犬", dog_font)
    assert cat == ClassLabel("cat", default_font())


def test_a_name_and_its_score_are_drawn_with_their_own_fonts(dog_font, no_system_fonts):
    image = np.full((200, 300, 3), 128, np.uint8)
    drawn = draw_detections(image, np.array([[50, 100, 250, 150, 0.9, 0]]), class_labels(("犬犬",), dog_font))
    tag = drawn[70:99, 50:150]
    ink = (tag == contrast_colour(class_colour(0))).all(2).any(0)
    # Two squares, then the four characters of 0.90.
    starts = np.flatnonzero(np.diff(ink.astype(int)) == 1)
    assert len(starts) >= 5


def test_what_is_no_font_is_refused(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("cat")
    with pytest.raises(InputError, match=r"names\.txt: expected a TrueType or OpenType font"):
        class_labels(("cat",), path)


def test_a_script_that_needs_layout_is_not_drawn_wrong(no_system_fonts, monkeypatch):
    monkeypatch.setattr(fonts, "_has_layout", lambda: False)
    assert find_font("קרש") is None
    assert find_font("board") == default_font()


def test_white_space_and_composed_letters_are_put_in_order(no_system_fonts):
    (label,) = class_labels(("  traffic\tlight  e\u0301 ",))
    assert label.text == "traffic light \u00e9"
