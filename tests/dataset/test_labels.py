"""Label lines: what is read, what is clipped, what is refused; where the label file of an image is."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.dataset.labels import OVERHANG, label_candidates, label_path, parse_labels, scan_labels, scan_text
from utils.errors import InputError

# What is read. Bad lines and their messages: tests/bad_inputs/labels.


@pytest.mark.parametrize(
    "text",
    [
        "1 0.5 0.25 0.2 0.1",
        "1 0.5 0.25 0.2 0.1\n",
        "  1\t0.5 \t 0.25   0.2 0.1 \t \n\n \n",
        "1\u00a00.5\u30000.25\x0b0.2\x0c0.1",
        "1 5e-1 2.5E-01 +2e-1 .1",
        "1.0 0.5 0.25 0.2 0.10000",
        "01 00.5 0.25 0.2 0.1",
        "1 0.4 0.2 0.6 0.2 0.6 0.3 0.4 0.3",  # a rectangle as polygon
        "1 0.4 0.25 0.5 0.2 0.6 0.25 0.5 0.3",  # a rhombus
        "1 0.5 0.25 0.2 0.1 0.875",  # with a score
    ],
)
def test_spellings_of_one_box(text):
    labels = parse_labels(text, "x.txt", classes=2)
    assert labels.dtype == np.float32
    assert labels == pytest.approx(np.array([[1, 0.5, 0.25, 0.2, 0.1]], np.float32), abs=1e-7)


@pytest.mark.parametrize("text", ["", "\n", " \t\n\n  "])
def test_no_labels(text):
    labels = parse_labels(text, "x.txt", classes=2)
    assert labels.shape == (0, 5)
    assert labels.dtype == np.float32


def test_polygons_and_scores_are_counted():
    scan = scan_text("0 0.1 0.1 0.2 0.1 0.2 0.3\n0 .5 .5 .1 .1 1\n0 .5 .5 .1 .1\n0 .5 .5 .1 .1 7\n")
    assert (scan.polygons, scan.scores, len(scan.labels)) == (1, 1, 3)
    assert [line for line, _ in scan.problems] == [4]
    assert scan.labels[0] == pytest.approx([0, 0.15, 0.2, 0.1, 0.2], abs=1e-7)


def test_any_class_will_do_when_their_number_is_unknown():
    assert parse_labels("4000 .5 .5 .1 .1", "x.txt")[0, 0] == 4000
    with pytest.raises(InputError, match=r"^x.txt:1: expected class 0 or more, got -1: "):
        parse_labels("-1 .5 .5 .1 .1", "x.txt")


def test_the_first_problem_is_raised_and_all_are_listed(tmp_path):
    path = tmp_path / "größe 1.txt"
    path.write_text("0 .5 .5 .1 .1\r\n\r\n0 .5\r\n9 .5 .5 .1 .1\r\n1 .4 .4 .1 .1\r\n", encoding="utf-8-sig")
    labels, problems = scan_labels(path, classes=2)
    assert labels[:, 0].tolist() == [0, 1]
    assert problems == [
        (3, "expected \"class cx cy w h\", got 2 values: '0 .5'"),
        (4, "expected class 0…1, got 9: '9 .5 .5 .1 .1'"),
    ]
    with pytest.raises(InputError) as raised:
        parse_labels("\n0 .5\n9 .5 .5 .1 .1", path, classes=2)
    assert str(raised.value) == f"{path}:2: expected \"class cx cy w h\", got 2 values: '0 .5'"


@pytest.mark.parametrize(
    "line", ["0 1_0 .5 .1 .1", "0 0x1 .5 .1 .1", "0 .5 .5 .1 1e", "nan .5 .5 .1 .1", "0 .5 -inf .1 .1"]
)
def test_what_only_python_calls_a_number_is_none(line):
    assert len(scan_text(line).problems) == 1


def test_a_long_line_is_shown_shortened():
    ((_, message),) = scan_text("0 " + "0.25 " * 101).problems
    assert message.startswith('expected "class cx cy w h", got 102 values')
    assert len(message) < 150


# Clipping


@pytest.mark.parametrize(
    ("line", "box"),
    [
        ("0 0.5 0.5 1 1", (0.5, 0.5, 1, 1)),
        ("0 0.5 0.5 1.001 1", (0.5, 0.5, 1, 1)),
        ("0 0.0495 0.5 0.1 0.2", (0.04975, 0.5, 0.0995, 0.2)),
        ("0 0.9505 0.5 0.1 0.2", (0.95025, 0.5, 0.0995, 0.2)),
        ("0 0.5 0.0999995 0.1 0.2", (0.5, 0.09999975, 0.1, 0.1999995)),
        ("0 -0.0005 -0.0005 0.8 -0.0005 0.8 0.6", (0.4, 0.3, 0.8, 0.6)),
    ],
)
def test_a_rounding_error_is_clipped(line, box):
    assert parse_labels(line, "x.txt")[0, 1:] == pytest.approx(box, abs=1e-7)


@pytest.mark.parametrize("shift", [-1, 1])
@pytest.mark.parametrize("axis", [0, 1])
def test_more_than_a_rounding_error_is_refused(axis, shift):
    centre = [0.5, 0.5]
    centre[axis] += shift * (0.4 + OVERHANG * 0.9)
    line = f"0 {centre[0]} {centre[1]} 0.2 0.2"
    assert not scan_text(line).problems
    centre[axis] += shift * OVERHANG * 0.2
    assert "reaches out by 0.0011 of its side" in scan_text(f"0 {centre[0]} {centre[1]} 0.2 0.2").problems[0][1]


@pytest.mark.parametrize(
    "line", ["0 1.0002 0.5 0.0002 0.1", "0 0.5 -0.0002 0.1 0.0001", "0 0 0.5 1e-50 0.1", "0 .5 .5 .1 -0"]
)
def test_nothing_left_inside_the_image_is_refused(line):
    assert len(scan_text(line).problems) == 1


# Properties

fractions = st.floats(0, 1, width=32)


@st.composite
def boxes(draw):
    """(class, cx, cy, w, h) inside the image, of at least a thousandth of it."""
    edges = [sorted((draw(fractions), draw(fractions))) for _ in range(2)]
    (left, right), (top, bottom) = [(min(low, 0.999), max(high, min(low, 0.999) + 1e-3)) for low, high in edges]
    return draw(st.integers(0, 79)), (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


@given(st.lists(boxes()), st.sampled_from(["{:.6f}", "{!r}", "{:.9e}"]), st.sampled_from([" ", "\t", "   "]))
def test_what_is_written_is_read(rows, form, separator):
    lines = [separator.join([str(label), *(form.format(value) for value in box)]) for label, *box in rows]
    labels = parse_labels("\n".join(lines), "x.txt", classes=80)
    assert labels.shape == (len(rows), 5)
    assert labels == pytest.approx(np.array(rows, np.float32).reshape(-1, 5), abs=2e-6)


@given(st.text(alphabet="0123456789.-+eEinfa_ \t\n\r,#", max_size=200))
def test_every_line_is_a_good_box_or_a_problem(text):
    scan = scan_text(text, classes=3)
    filled = [number for number, line in enumerate(text.split("\n"), 1) if line.split()]
    assert len(scan.labels) + len(scan.problems) == len(filled)
    assert {number for number, _ in scan.problems} <= set(filled)
    check_good(scan.labels)


@given(st.lists(st.lists(st.floats(-0.1, 1.1) | st.sampled_from([0, 0.5, 1]), min_size=4, max_size=9), max_size=5))
def test_good_boxes_have_an_area_inside_the_image(rows):
    check_good(scan_text("\n".join("0 " + " ".join(map(repr, row)) for row in rows)).labels)


def check_good(labels):
    centre, size = labels[:, 1:3], labels[:, 3:]
    assert np.isfinite(labels).all()
    assert (labels[:, 0] >= 0).all()
    assert (labels[:, 0] == labels[:, 0].round()).all()
    assert (size > 0).all()
    assert (centre - size / 2 >= -1e-6).all()
    assert (centre + size / 2 <= 1 + 1e-6).all()


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused_in_one_line(text):
    scan = scan_text(text, classes=2)
    if scan.problems:
        with pytest.raises(InputError, match=r"\Ax\.txt:\d+: expected [^\n]*\Z"):
            parse_labels(text, "x.txt", classes=2)
    else:
        assert (parse_labels(text, "x.txt", classes=2) == scan.labels).all()


# Where labels are


@pytest.mark.parametrize(
    ("image", "places"),
    [
        ("a.jpg", ["a.txt"]),
        ("set/a.b.c.JPG", ["set/a.b.c.txt"]),
        ("v1.2/set.d/ä ö.jpeg", ["v1.2/set.d/ä ö.txt"]),
        ("images/a.jpg", ["images/a.txt", "labels/a.txt"]),
        ("/data/images/train/x/a.jpg", ["/data/images/train/x/a.txt", "/data/labels/train/x/a.txt"]),
        ("/images/voc/JPEGImages/a.jpg", ["/images/voc/JPEGImages/a.txt", "/images/voc/labels/a.txt"]),
        ("my_images/images.old/a.jpg", ["my_images/images.old/a.txt"]),
        ("x/images.jpg", ["x/images.txt"]),
    ],
)
def test_label_candidates(image, places):
    assert [Path(place) for place in label_candidates(str(Path(image)))] == [Path(place) for place in places]


def test_label_path_prefers_the_file_beside(tmp_path):
    image = tmp_path / "images" / "a.jpg"
    beside, under = tmp_path / "images" / "a.txt", tmp_path / "labels" / "a.txt"
    for folder in (beside.parent, under.parent):
        folder.mkdir()
    assert label_path(image) == beside
    under.touch()
    assert label_path(image) == under
    beside.touch()
    assert label_path(image) == beside
    assert label_path(str(image)) == beside
