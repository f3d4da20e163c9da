"""Label files in darknet format: one object per line, `class cx cy w h`, boxes as fractions of the image."""

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.dataset.label_layout import MAX_OVERHANG, Layout, choose_layout
from utils.text import shorten

MAX_CLASSES = 2**24  # float32, which holds the classes, has all whole numbers up to here
MIN_LINE_BYTES = len("0 0 0 1 1")

# The labels of an image under one of these folders may be under the folder `labels` next to it.
IMAGE_FOLDERS = ("images", "JPEGImages")

CHANGES = {  # what label lines can have, and how they are changed
    "polygon": "polygons; their bounding boxes are used",
    "score": "boxes with a sixth value; it is read as a score, not as an angle, and is not used",
    "keypoints": "boxes with keypoints; the keypoints are not used",
    "clipped": "boxes that extend beyond the image; they are clipped",  # by more than a rounding error
}

_SHOWN = 80  # characters of a line in a message
_MIN_SIDE = float(np.finfo(np.float32).tiny)  # smaller sides lose precision or become 0 in float32


class ParsedLabels(NamedTuple):
    """Content of a label file."""

    labels: np.ndarray  # [n, 5] float32, (class, cx, cy, w, h) of the valid lines, inside the image
    problems: list[tuple[int, str]]  # (line number from 1, what was expected and read) of the other lines
    changes: dict[str, int]  # lines that were changed, for each key of CHANGES


def label_candidates(image: str) -> list[str]:
    """Possible label files of an image, in order: next to it, then under `labels/`.

    The second exists only for images under `images/` or `JPEGImages/`; the last such folder in the path is replaced.
    """
    folder, name = os.path.split(image)
    name = os.path.splitext(name)[0] + ".txt"
    return [os.path.join(candidate, name) for candidate in _label_folders(folder)]


class FoundLabels(NamedTuple):
    """The label files of a list of images."""

    files: list[str | None]  # per image; None: there is none
    hidden: list[tuple[str, str]]  # (label file that is used, another one of the same image)


def find_labels(images: Iterable[str | Path]) -> FoundLabels:
    """Find for each image the first of its `label_candidates` that exists; the suffix may also be `.TXT`."""
    listings = {}  # image folder: (path prefix, names of the files) of each of its label folders
    labels, hidden = [], []
    for image in map(os.fspath, images):
        folder, separator, name = image.rpartition(os.sep)
        if folder not in listings:
            listings[folder] = [(place + separator, _list_names(place)) for place in _label_folders(folder)]
        stem = name.rpartition(".")[0]
        found = [
            prefix + name
            for prefix, names in listings[folder]
            for name in (f"{stem}.txt", f"{stem}.TXT")
            if name in names
        ]
        if not found:
            # The label file is missing, or has another case on a file system that ignores case.
            found = list(filter(os.path.exists, label_candidates(image)))
        labels.append(found[0] if found else None)
        if len(found) > 1:
            hidden.append((found[0], found[1]))
    return FoundLabels(labels, hidden)


def _label_folders(folder: str) -> tuple[str, ...]:
    """The one or two folders where the labels of the images in a folder can be."""
    parts = folder.split(os.sep)
    for position in range(len(parts) - 1, -1, -1):
        if parts[position] in IMAGE_FOLDERS:
            return folder, os.sep.join([*parts[:position], "labels", *parts[position + 1 :]])
    return (folder,)


def _list_names(folder: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder or "."))
    except OSError:
        return frozenset()


def parse_labels(text: str, classes: int | None = None) -> ParsedLabels:
    """Parse the content of a label file; blank lines are skipped, values are separated by any white space.

    A line with six values is a box with a score. Longer lines are polygons, which are converted to their bounding
    boxes, or boxes with keypoints; `choose_layout` decides which. Scores and keypoints are dropped.

    Args:
        classes: number of classes; None accepts every class from 0.
    """
    lines, rows, problems = [], [], []
    for line_number, line in enumerate(text.split("\n"), 1):
        values = line.split()
        if not values:
            continue
        try:
            lines.append((line_number, line, *_parse_values(values, classes)))
        except ValueError as error:
            problems.append((line_number, f"{error}: {shorten(line.strip(), _SHOWN)!r}"))
    long_rows = [row for *_, row in lines if len(row) > 5]
    layout = choose_layout(long_rows) if long_rows else None
    changes = dict.fromkeys(CHANGES, 0)
    for line_number, line, class_id, row in lines:
        try:
            box, overhang = _clip_box(*_to_box(row, layout))
            rows.append((class_id, *box))
        except ValueError as error:
            problems.append((line_number, f"{error}: {shorten(line.strip(), _SHOWN)!r}"))
        else:
            if len(row) > 4:
                changes["score" if len(row) == 5 else layout] += 1
            changes["clipped"] += overhang > MAX_OVERHANG
    problems.sort()
    return ParsedLabels(np.array(rows, np.float32).reshape(-1, 5), problems, changes)


def format_labels(labels: Sequence[tuple[int, float, float, float, float]]) -> str:
    """Return the lines of a label file; nine decimals are more precise than the float32 that labels are read as."""
    return "".join(f"{row[0]:d} {row[1]:.9f} {row[2]:.9f} {row[3]:.9f} {row[4]:.9f}\n" for row in labels)


# The functions below raise ValueError with what was expected and what was read.


def _parse_values(values: list[str], classes: int | None) -> tuple[float, list[float]]:
    """Convert the values of one line to the class and the numbers after it."""
    if len(values) < 5:
        raise ValueError(f'expected "class cx cy w h", got {len(values)} value{"s" if len(values) != 1 else ""}')
    class_id, *row = (_parse_number(value) for value in values)
    if class_id != int(class_id) or not 0 <= class_id < (MAX_CLASSES if classes is None else classes):
        limit = f"0…{classes - 1}" if classes is not None else "0 or more" if class_id < MAX_CLASSES else "below 2^24"
        raise ValueError(f"expected class {limit}, got {values[0]}")
    if len(row) == 5 and not 0 <= row[4] <= 1:
        raise ValueError(f"expected a score 0…1 as the sixth value, got {values[5]}")
    return class_id, row


def _to_box(row: list[float], layout: Layout | None) -> Sequence[float]:
    """Convert the numbers after the class to (cx, cy, w, h); `layout` is that of the file's long lines."""
    if len(row) <= 5 or layout == "keypoints":
        return row[:4]
    if layout == "track":
        raise ValueError('expected "class cx cy w h", got 7 values, with a score and a track id')
    if len(row) % 2:
        raise ValueError(f'expected "class cx cy w h", got {len(row) + 1} values')
    box = _polygon_to_box(row)
    if layout is None:
        _clip_box(*box)  # has a more specific error for coordinates outside the image
        raise ValueError(f"expected long lines that are all polygons or all keypoints, got {len(row) + 1} values")
    return box


def _parse_number(text: str) -> float:
    try:
        # float() accepts `1_000`, which no tool writes as a number.
        value = float(text) if "_" not in text else None
    except ValueError:
        value = None
    if value is None:
        raise ValueError(f"expected numbers, got {shorten(text, _SHOWN)!r}")
    if not math.isfinite(value):
        raise ValueError(f"expected finite numbers, got {shorten(text, _SHOWN)!r}")
    return value


def _polygon_to_box(coordinates: list[float]) -> tuple[float, ...]:
    """Bounding box (cx, cy, w, h) of x1, y1, x2, y2, …"""
    left, right = min(coordinates[0::2]), max(coordinates[0::2])
    top, bottom = min(coordinates[1::2]), max(coordinates[1::2])
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def _clip_box(cx: float, cy: float, width: float, height: float) -> tuple[tuple[float, ...], float]:
    """Clip a box to the image; return it and by how much it extended beyond the image, as a fraction.

    Objects at the border are often labeled with a box that extends beyond it. But a center outside, or a side longer
    than the image, is probably not "cx cy w h" as fractions, so it is an error, as is a box without area.
    """
    if width < _MIN_SIDE or height < _MIN_SIDE:
        raise ValueError(f"expected w and h above 0, got {width:g} and {height:g}")
    left, right = cx - width / 2, cx + width / 2
    top, bottom = cy - height / 2, cy + height / 2
    overhang = max(-left, -top, right - 1, bottom - 1)
    if overhang <= 0:
        return (cx, cy, width, height), 0.0
    left, right, top, bottom = max(left, 0.0), min(right, 1.0), max(top, 0.0), min(bottom, 1.0)
    fits = 0 <= cx <= 1 and 0 <= cy <= 1 and max(width, height) <= 1 + MAX_OVERHANG
    if not fits or right - left < _MIN_SIDE or bottom - top < _MIN_SIDE:
        raise ValueError(f"expected a box inside the image, got one that extends {overhang:.3g} beyond it")
    return ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top), overhang
