"""Label files: parsing, clipping, invalid lines, and the label file of an image."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.boxes import corners
from utils.dataset.label_layout import MAX_OVERHANG
from utils.dataset.labels import find_labels, format_labels, label_candidates, parse_labels

# Parsing. Invalid lines and their messages: tests/convert/bad_inputs/labels.


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
    labels = parse_labels(text, classes=2).labels
    assert labels.dtype == np.float32
    assert labels == pytest.approx(np.array([[1, 0.5, 0.25, 0.2, 0.1]], np.float32), abs=1e-7)


@pytest.mark.parametrize("text", ["", "\n", " \t\n\n  "])
def test_no_labels(text):
    labels = parse_labels(text, classes=2).labels
    assert labels.shape == (0, 5)
    assert labels.dtype == np.float32


def test_polygons_and_scores_are_counted():
    parsed = parse_labels("0 0.1 0.1 0.2 0.1 0.2 0.3\n0 .5 .5 .1 .1 1\n0 .5 .5 .1 .1\n0 .5 .5 .1 .1 7\n")
    assert (parsed.changes["polygon"], parsed.changes["score"], len(parsed.labels)) == (1, 1, 3)
    assert [line for line, _ in parsed.problems] == [4]
    assert parsed.labels[0] == pytest.approx([0, 0.15, 0.2, 0.1, 0.2], abs=1e-7)


def test_any_class_is_valid_if_the_class_count_is_unknown():
    assert parse_labels("4000 .5 .5 .1 .1").labels[0, 0] == 4000
    ((line, message),) = parse_labels("-1 .5 .5 .1 .1").problems
    assert (line, message.split(": ")[0]) == (1, "expected class 0 or more, got -1")


def test_problems_have_line_numbers():
    parsed = parse_labels("0 .5 .5 .1 .1\n\n0 .5\n9 .5 .5 .1 .1\n1 .4 .4 .1 .1\n", classes=2)
    assert parsed.labels[:, 0].tolist() == [0, 1]
    assert parsed.problems == [
        (3, "expected \"class cx cy w h\", got 2 values: '0 .5'"),
        (4, "expected class 0…1, got 9: '9 .5 .5 .1 .1'"),
    ]


@pytest.mark.parametrize(
    "line", ["0 1_0 .5 .1 .1", "0 0x1 .5 .1 .1", "0 .5 .5 .1 1e", "nan .5 .5 .1 .1", "0 .5 -inf .1 .1"]
)
def test_values_that_only_python_accepts_are_invalid(line):
    assert len(parse_labels(line).problems) == 1


def test_long_lines_are_shortened_in_messages():
    ((_, message),) = parse_labels("0 " + "0.25 " * 101).problems
    assert message.startswith('expected "class cx cy w h", got 102 values')
    assert len(message) < 150


def test_lines_of_a_label_file():
    assert format_labels([(0, 0.5, 0.25, 1 / 3, 1.0), (12, 1e-6, 0.1, 2e-6, 0.2)]) == (
        "0 0.500000000 0.250000000 0.333333333 1.000000000\n12 0.000001000 0.100000000 0.000002000 0.200000000\n"
    )
    assert format_labels([]) == ""


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
def test_rounding_errors_are_clipped(line, box):
    assert parse_labels(line).labels[0, 1:] == pytest.approx(box, abs=1e-7)


@pytest.mark.parametrize("shift", [-1, 1])
@pytest.mark.parametrize("axis", [0, 1])
def test_larger_overhang_is_clipped_and_counted(axis, shift):
    center = [0.5, 0.5]
    center[axis] += shift * (0.4 + MAX_OVERHANG * 0.9)
    assert parse_labels(f"0 {center[0]} {center[1]} 0.2 0.2").changes["clipped"] == 0
    center[axis] += shift * MAX_OVERHANG * 0.2
    parsed = parse_labels(f"0 {center[0]} {center[1]} 0.2 0.2")
    assert (parsed.changes["clipped"], parsed.problems) == (1, [])
    low, high = np.array(corners(parsed.labels[0, 1:]))[:, axis]
    assert (low, high) == pytest.approx((0.8 + MAX_OVERHANG * 1.1, 1) if shift > 0 else (0, 0.2 - MAX_OVERHANG * 1.1))


@pytest.mark.parametrize("line", ["0 1.01 0.5 0.4 0.4", "0 0.5 -0.01 0.4 0.4", "0 0.5 0.5 1.01 0.2", "0 32 24 10 10"])
def test_values_that_are_not_fractions_of_the_image_are_invalid(line):
    assert "inside the image" in parse_labels(line).problems[0][1]


@pytest.mark.parametrize(
    "line", ["0 1.0002 0.5 0.0002 0.1", "0 0.5 -0.0002 0.1 0.0001", "0 0 0.5 1e-50 0.1", "0 .5 .5 .1 -0"]
)
def test_boxes_without_area_inside_the_image_are_invalid(line):
    assert len(parse_labels(line).problems) == 1


# Properties

fractions = st.floats(0, 1, width=32)


@st.composite
def boxes(draw):
    """(class, cx, cy, w, h) inside the image, of at least a thousandth of it."""
    edges = [sorted((draw(fractions), draw(fractions))) for _ in range(2)]
    (left, right), (top, bottom) = [(min(low, 0.999), max(high, min(low, 0.999) + 1e-3)) for low, high in edges]
    return draw(st.integers(0, 79)), (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


@given(st.lists(boxes()), st.sampled_from(["{:.6f}", "{!r}", "{:.9e}"]), st.sampled_from([" ", "\t", "   "]))
def test_written_boxes_are_read_back(rows, form, separator):
    lines = [separator.join([str(label), *(form.format(value) for value in box)]) for label, *box in rows]
    labels = parse_labels("\n".join(lines), classes=80).labels
    assert labels.shape == (len(rows), 5)
    assert labels == pytest.approx(np.array(rows, np.float32).reshape(-1, 5), abs=2e-6)


@given(st.text(alphabet="0123456789.-+eEinfa_ \t\n\r,#", max_size=200))
def test_every_line_is_a_box_or_a_problem(text):
    parsed = parse_labels(text, classes=3)
    filled = [line_number for line_number, line in enumerate(text.split("\n"), 1) if line.split()]
    assert len(parsed.labels) + len(parsed.problems) == len(filled)
    assert {line_number for line_number, _ in parsed.problems} <= set(filled)
    assert_valid(parsed.labels)


@given(st.lists(st.lists(st.floats(-0.1, 1.1) | st.sampled_from([0, 0.5, 1]), min_size=4, max_size=9), max_size=5))
def test_parsed_boxes_have_an_area_inside_the_image(rows):
    assert_valid(parse_labels("\n".join("0 " + " ".join(map(repr, row)) for row in rows)).labels)


def assert_valid(labels):
    center, size = labels[:, 1:3], labels[:, 3:]
    assert np.isfinite(labels).all()
    assert (labels[:, 0] >= 0).all()
    assert (labels[:, 0] == labels[:, 0].round()).all()
    assert (size > 0).all()
    assert (center - size / 2 >= -1e-6).all()
    assert (center + size / 2 <= 1 + 1e-6).all()


@given(st.text(max_size=300))
def test_a_problem_of_any_text_is_one_line(text):
    for _, message in parse_labels(text, classes=2).problems:
        assert message.startswith("expected ")
        assert "\n" not in message


# Label files


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


def test_label_file_next_to_the_image_is_preferred(tmp_path):
    images = [str(tmp_path / "images" / "a.jpg")]
    next_to_it, in_labels = tmp_path / "images" / "a.txt", tmp_path / "labels" / "a.txt"
    for folder in (next_to_it.parent, in_labels.parent):
        folder.mkdir()
    assert find_labels(images) == ([None], [])
    in_labels.touch()
    assert find_labels(images) == ([str(in_labels)], [])
    next_to_it.touch()
    assert find_labels(images) == ([str(next_to_it)], [(str(next_to_it), str(in_labels))])


def test_a_label_file_with_an_upper_case_suffix(tmp_path):
    (tmp_path / "IMG_1.TXT").touch()
    assert find_labels([str(tmp_path / "IMG_1.JPG")]).files == [str(tmp_path / "IMG_1.TXT")]
