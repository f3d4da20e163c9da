"""utils.text: display width, aligned columns and the first line of an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.text import align_columns, counted, display_width, first_line, printable


@pytest.mark.parametrize(("text", "width"), [("", 0), ("abc", 3), ("größe", 5), ("安全帽", 6), ("e\u0301", 1)])
def test_display_width(text, width):
    assert display_width(text) == width


@given(st.lists(st.lists(st.text("ab 帽é", max_size=6), min_size=3, max_size=3), min_size=1, max_size=5))
def test_columns_are_aligned(rows):
    rows = [[*row, "|"] for row in rows]
    lines = align_columns(rows, left=(0, 2)).split("\n")
    assert len({display_width(line) for line in lines}) == 1
    for row, line in zip(rows, lines, strict=True):
        assert line.startswith(row[0])
        assert "".join(row).replace(" ", "") == line.replace(" ", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("größe 安全帽 👷🏽‍♀️ \\", "größe 安全帽 👷🏽‍♀️ \\"),
        ("a\x1b[31mred", "a\\x1b[31mred"),
        ("a\rb\nc\td\0", "a\\rb\\nc\\td\\x00"),
        ("\x9b2J", "\\x9b2J"),
        ("gnp.\u202ecat", "gnp.\\u202ecat"),
    ],
)
def test_control_characters_are_escaped(text, expected):
    assert printable(text) == expected
    assert align_columns([[text, "1"]]) == f"{expected}  1"


@pytest.mark.parametrize(
    ("error", "expected"),
    [(ValueError("  one\ntwo"), "one"), (ValueError(), "ValueError"), (RuntimeError(" \n"), "RuntimeError")],
)
def test_first_line(error, expected):
    assert first_line(error) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [((0, "image"), "0 images"), ((1, "box", "boxes"), "1 box"), ((1868, "box", "boxes"), "1,868 boxes")],
)
def test_counted(arguments, expected):
    assert counted(*arguments) == expected
