"""Anchors in files: the line of `width,height` pairs, `anchors6.txt`, and the entry in a .data file."""

import re
from pathlib import Path

from utils.errors import InputError
from utils.files import atomic_path, read_text, write_text

_BLANKS = r"[^\S\r\n]*"
# Groups: what stays before the value, the value with the blanks after it, the comment.
_ENTRY = re.compile(rf"((?:\A\ufeff?|(?<=[\r\n])){_BLANKS}anchors{_BLANKS}={_BLANKS})([^#\r\n]*)(#[^\r\n]*)?")


def format_anchors(anchors):
    """[k, 2] anchors as `12.64,19.39, 37.88,51.48`, the form of the .data file."""
    return ", ".join(f"{width:.2f},{height:.2f}" for width, height in anchors)


def write_anchor_file(path, anchors, average_iou):
    """Write the original's file: the anchors on line 1, their average IoU with the boxes on line 2."""
    write_text(path, f"{format_anchors(anchors)}\n{average_iou:.6f}\n")


def replace_anchors(path, anchors):
    """Put anchors [k, 2] into a .data file; all else in it stays as it was, byte by byte.

    A comment behind the anchors stays in its column where there is room. The file as it was is kept
    beside it as `NAME.bak`, or `NAME.bak-2`, … where there is one already.

    Returns:
        Path of the backup.
    Raises:
        InputError: no anchors entry, or the file cannot be read or the folder written to.
    """
    # A link would be replaced by a file; what it points to is what is meant.
    path = Path(path).resolve() if Path(path).is_symlink() else Path(path)
    read_text(path)  # for its errors; the line ends have to be seen as they are
    before = path.read_bytes()
    after, found = _ENTRY.subn(lambda entry: _entry(entry, format_anchors(anchors)), before.decode(), count=1)
    if not found:
        raise InputError(f"{path}: expected an entry 'anchors=…', found none")
    backup = _free_name(path)
    for target, content in ((backup, before), (path, after.encode())):
        with atomic_path(target) as temporary:
            temporary.write_bytes(content)
    return backup


def _entry(entry, text):
    start, value, comment = entry.groups()
    if comment is None:
        return start + text + value[len(value.rstrip()) :]
    return start + text.ljust(max(len(value), len(text) + 1)) + comment


def _free_name(path):
    number = 1
    while True:
        backup = path.with_name(f"{path.name}.bak" + (f"-{number}" if number > 1 else ""))
        if not backup.exists():
            return backup
        number += 1
