"""Text tables with aligned columns, for terminals, files and pipes."""

import unicodedata
from collections.abc import Collection, Sequence


def align_columns(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """Format rows of cells as lines with two spaces between columns and none at the end.

    Args:
        rows: cells, equally many per row; a header is a row.
        left: indices of the left-aligned columns; the others are right-aligned.
    """
    widths = [max(map(display_width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for index, (text, width) in enumerate(zip(row, widths, strict=True)):
            padding = " " * (width - display_width(text))
            cells.append(text + padding if index in left else padding + text)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def display_width(text: str) -> int:
    """Terminal columns of a text: East Asian wide characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )
