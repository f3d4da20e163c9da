"""Text for messages: tables with aligned columns, shortened texts and lists."""

import re
import unicodedata
from collections.abc import Collection, Sequence

# Control characters, and those that change the direction of the text around them.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Escape control characters, so that a name in a file cannot move the cursor or hide text in a terminal."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def align_columns(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """Format rows of cells as lines with two spaces between columns and none at the end.

    Args:
        rows: cells, the same number in each row; a header is also a row.
        left: indices of the left-aligned columns; the others are right-aligned.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(display_width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for index, (text, width) in enumerate(zip(row, widths, strict=True)):
            padding = " " * (width - display_width(text))
            cells.append(text + padding if index in left else padding + text)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def shorten(text: str, length: int) -> str:
    """Cut `text` to at most `length` characters; an ellipsis marks the cut."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the name of its type if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def list_names(names: Collection[str], shown: int = 3) -> str:
    """Join the first `shown` names with commas, and add "and N more" if there are more."""
    rest = len(names) - shown
    return ", ".join(list(names)[:shown]) + (f" and {rest} more" if rest > 0 else "")


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return for example "1 image" or "1,868 images". `plural` is for nouns whose plural is not formed with -s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def display_width(text: str) -> int:
    """Terminal columns of a text: East Asian wide characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )
