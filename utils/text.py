"""Text tables with aligned columns, readable in a terminal, in a file and through a pipe."""

import unicodedata


def align_columns(rows, left=(0,)):
    """Rows of cells as lines of text, two blanks between columns.

    Args:
        rows: lists of texts, equally long; the header is a row like the others.
        left: numbers of the columns that are flush left; the others are flush right.
    Returns:
        The lines, joined by line breaks, without blanks at their ends.
    """
    columns = list(zip(*rows, strict=True))
    widths = [max(map(display_width, column)) for column in columns]
    lines = []
    for row in rows:
        cells = []
        for number, (text, width) in enumerate(zip(row, widths, strict=True)):
            blanks = " " * (width - display_width(text))
            cells.append(text + blanks if number in left else blanks + text)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def display_width(text):
    """Columns that a text takes in a terminal: East Asian wide characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )
