"""Which text and which font are drawn for a class name."""

import re

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from utils.errors import InputError
from utils.plots import fonts
from utils.plots.draw import class_color, contrast_color, draw_detections
from utils.plots.fonts import ClassLabel, class_labels, default_font, drawable
from utils.text import shorten

# Right-to-left text, bidirectional controls, emoji with joiners, stacked marks, control characters, a lone surrogate.
HARD_NAMES = (
    *("קסדה", "خوذة", "می‌خواهم", "\u202ehelmet\u2066", "👷‍♀️", "Z\u0351\u0343\u0364algo", "หมวก", "हेलमेट"),
    *("a\x00b\x07c", "\ud800", "\u200b", "", "a\nb", "\U0010ffff"),
)


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


def test_latin_greek_and_cyrillic_need_no_other_font(capsys):
    names = ("Größe", "γάτα", "собака", "čeština", "e\u0301tage", "Tiếng Việt")
    labels = class_labels(names)
    assert [label.font for label in labels] == [default_font()] * len(names)
    assert "\ufffd" not in "".join(label.text for label in labels)
    assert capsys.readouterr().err == ""


def test_missing_characters_are_replaced_with_one_warning(capsys):
    labels = class_labels(("猫", "dog", "한국어 2"))
    assert [label.text for label in labels] == ["\ufffd", "dog", "\ufffd\ufffd\ufffd 2"]
    warning = capsys.readouterr().err
    assert warning.count("warning:") == 1
    assert "2 of 3 class names" in warning
    assert "'猫'" in warning
    assert "--font" in warning


def test_the_given_font_comes_first_and_the_default_font_draws_the_rest(dog_font, capsys):
    assert class_labels(("犬", "cat"), dog_font) == [ClassLabel("犬", dog_font), ClassLabel("cat", default_font())]
    assert capsys.readouterr().err == ""


def test_a_name_and_its_score_are_drawn_with_different_fonts(dog_font):
    image = np.full((200, 300, 3), 128, np.uint8)
    drawn = draw_detections(image, np.array([[50, 100, 250, 150, 0.9, 0]]), class_labels(("犬犬",), dog_font))
    tag = drawn[70:99, 50:150]
    ink = (tag == contrast_color(class_color(0))).all(2).any(0)
    # Two squares, then the four characters of 0.90.
    starts = np.flatnonzero(np.diff(ink.astype(int)) == 1)
    assert len(starts) >= 5


def test_a_file_that_is_not_a_font_is_refused(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("cat")
    with pytest.raises(InputError, match=r"names\.txt: expected a TrueType or OpenType font"):
        class_labels(("cat",), path)


def test_without_a_layout_library_right_to_left_text_is_not_drawn_in_the_wrong_order(monkeypatch):
    monkeypatch.setattr(fonts, "_has_layout", lambda: False)
    assert drawable("קרש") == "\ufffd" * 3
    assert drawable("board") == "board"


def test_white_space_is_collapsed_and_letters_are_composed():
    (label,) = class_labels(("  traffic\tlight  e\u0301 ",))
    assert label.text == "traffic light \u00e9"


@pytest.mark.parametrize("layout", [True, False])
def test_every_name_can_be_drawn(layout, monkeypatch):
    monkeypatch.setattr(fonts, "_has_layout", lambda: layout)
    labels = class_labels(HARD_NAMES)
    assert all(label.text and re.sub("[\u200c\u200d]", "", label.text).isprintable() for label in labels)
    image = np.full((100, 200, 3), 128, np.uint8)
    for class_id in range(len(HARD_NAMES)):
        drawn = draw_detections(image, np.array([[50, 40, 150, 90, 0.9, class_id]]), labels)
        assert (drawn[:40] != image[:40]).any()


def test_shorten():
    assert shorten("helmet", 6) == "helmet"
    assert shorten("hard hat", 6) == "hard…"
    assert shorten("helmet", 1) == "…"
