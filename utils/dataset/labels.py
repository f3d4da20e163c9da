"""Label files in darknet's format: one object a line, `class cx cy w h`, boxes as fractions of the image."""

import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.errors import InputError
from utils.files import read_text

# How far a box may reach out of the image, as a fraction of it: what three decimals can be off. It is clipped.
OVERHANG = 1e-3

# A label may lie in a folder `labels` that stands where one of these stands in the image's path.
IMAGE_FOLDERS = ("images", "JPEGImages")

_SMALLEST = float(np.finfo(np.float32).tiny)  # less is zero, or nearly, once it is float32


class LabelScan(NamedTuple):
    """What is in a label file."""

    labels: np.ndarray  # [n, 5] float32, (class, cx, cy, w, h) of the good lines, inside the image
    problems: list[tuple[int, str]]  # (line number from 1, what was expected and read) of the others
    polygons: int  # lines that were polygons, now boxes
    scores: int  # lines that had a score behind the box, now dropped


def label_path(image):
    """Where the labels of an image are: the `.txt` beside it, or the one under `labels/`.

    The second is looked at when the first does not exist and the image lies under `images/` or `JPEGImages/`;
    the last such folder of the path counts. When neither exists, the path of the first is returned.

    Args:
        image: path of an image, which need not exist.
    Returns:
        Path of a label file, which need not exist.
    """
    candidates = label_candidates(os.fspath(image))
    return Path(next((path for path in candidates if os.path.exists(path)), candidates[0]))


def label_candidates(image):
    """The one or two places, as text, where the labels of an image (text as well) can be; see `label_path`."""
    folder, name = os.path.split(image)
    name = os.path.splitext(name)[0] + ".txt"  # only the last dot begins the ending
    return [os.path.join(place, name) for place in label_folders(folder)]


def label_folders(folder):
    """The one or two folders (text) where the labels of the images of a folder can be, the first choice first."""
    parts = folder.split(os.sep)
    for position in range(len(parts) - 1, -1, -1):
        if parts[position] in IMAGE_FOLDERS:
            return folder, os.sep.join([*parts[:position], "labels", *parts[position + 1 :]])
    return (folder,)


def parse_labels(text, path, classes=None):
    """Labels of one image.

    Args:
        text: the label file's content.
        path: the label file, for the error message.
        classes: number of classes, or None if any class from 0 up will do.
    Returns:
        [n, 5] float32, (class, cx, cy, w, h), normalised and clipped to the image.
    Raises:
        InputError: naming file and line of the first malformed line, what was read and what was expected.
    """
    scan = scan_text(text, classes)
    if scan.problems:
        raise label_error(path, *scan.problems[0])
    return scan.labels


def scan_labels(path, classes=None):
    """All good and all malformed lines of a label file.

    Returns:
        labels: [n, 5] float32, as from `parse_labels`.
        problems: list of (line number from 1, message).
    Raises:
        InputError: the file cannot be read or is not UTF-8 text.
    """
    scan = scan_text(read_text(path), classes)
    return scan.labels, scan.problems


def label_error(path, line, message):
    """The InputError of a problem that a scan found."""
    return InputError(f"{path}:{line}: {message}")


def scan_text(text, classes=None):
    """LabelScan of a label file's content; blank lines do not count, white space is of any kind.

    A polygon (class and three or more points, as some exporters write objects) becomes its bounding box. A line
    of six values is a box with a score, as detections are written; the score is dropped.
    """
    rows, problems = [], []
    polygons = scores = 0
    for number, line in enumerate(text.split("\n"), 1):
        values = line.split()
        if not values:
            continue
        try:
            rows.append(_parse_line(values, classes))
        except ValueError as error:
            problems.append((number, f"{error}: {_short(line.strip())}"))
        else:
            polygons += len(values) > 6
            scores += len(values) == 6
    labels = np.array(rows, np.float32).reshape(-1, 5)
    return LabelScan(labels, problems, polygons, scores)


def _parse_line(values, classes):
    """(class, cx, cy, w, h) of one line's values.

    Raises:
        ValueError: with what was expected and what was read.
    """
    count = len(values)
    if count < 5 or (count > 6 and count % 2 == 0):
        raise ValueError(f'expected "class cx cy w h", got {count} value{"s" if count != 1 else ""}')
    label, *numbers = (_to_number(value) for value in values)
    if label != int(label) or label < 0 or (classes is not None and label >= classes):
        limit = f"0…{classes - 1}" if classes is not None else "0 or more"
        raise ValueError(f"expected class {limit}, got {values[0]}")
    if count == 6 and not 0 <= numbers.pop() <= 1:
        raise ValueError(f"expected a score 0…1 as the sixth value, got {values[5]}")
    return (label, *(_box_of_polygon(numbers) if count > 6 else _checked_box(*numbers)))


def _to_number(text):
    try:
        # float() takes `1_000`, which no exporter means as a number.
        value = float(text) if "_" not in text else None
    except ValueError:
        value = None
    if value is None:
        raise ValueError(f"expected numbers, got {_short(text)}")
    if not math.isfinite(value):
        raise ValueError(f"expected finite numbers, got {_short(text)}")
    return value


def _box_of_polygon(coordinates):
    """Bounding box (cx, cy, w, h) of x1, y1, x2, y2, …"""
    left, right = min(coordinates[0::2]), max(coordinates[0::2])
    top, bottom = min(coordinates[1::2]), max(coordinates[1::2])
    return _checked_box((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)


def _checked_box(cx, cy, width, height):
    """The box, clipped to the image if it reaches out by a rounding error."""
    if width < _SMALLEST or height < _SMALLEST:
        raise ValueError(f"expected w and h above 0, got {width:g} and {height:g}")
    left, right = cx - width / 2, cx + width / 2
    top, bottom = cy - height / 2, cy + height / 2
    overhang = max(-left, -top, right - 1, bottom - 1)
    if overhang <= 0:
        return cx, cy, width, height
    left, right, top, bottom = max(left, 0.0), min(right, 1.0), max(top, 0.0), min(bottom, 1.0)
    if overhang > OVERHANG or right - left < _SMALLEST or bottom - top < _SMALLEST:
        raise ValueError(f"expected a box inside the image, this one reaches out by {overhang:.3g} of its side")
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def _short(text, limit=80):
    return repr(text if len(text) <= limit else text[:limit] + "…")
