"""Reading a darknet data set whole, for conversions to other formats."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from utils.errors import InputError
from utils.files import read_text
from utils.images import image_size
from utils.labels import label_path, scan_text


class DarknetImage(NamedTuple):
    """One image of a list, with all that could be read of it."""

    path: Path
    size: tuple[int, int] | None  # width and height in pixels, None if it is no image
    problem: str | None  # why it is no image
    labels: np.ndarray  # [n, 5] float32, (class, cx, cy, w, h) as fractions of the image; the good lines
    label_problems: list[str]  # each malformed line, or why the file cannot be read
    has_labels: bool  # whether there is a label file; no file means no objects
    polygons: int  # lines that were polygons and are boxes now
    scores: int  # lines that had a score, now dropped


def read_darknet(images, classes):
    """Sizes and labels of all images; what is broken is told and not raised.

    Args:
        images: list of paths, from `list_images`.
        classes: number of classes.
    Returns:
        list of DarknetImage, in the same order.
    """
    with ThreadPoolExecutor() as pool:
        read = pool.map(lambda path: read_one(path, classes), images)
        return list(tqdm(read, "images", len(images), disable=None))


def read_one(path, classes):
    """DarknetImage of one path; of the image only the header is read."""
    size, problem = None, None
    scan, label_problems = scan_text("", classes), []
    label_file = label_path(path)
    has_labels = label_file.exists()
    try:
        size = image_size(path)
    except InputError as error:
        problem = str(error)
    if has_labels:
        try:
            scan = scan_text(read_text(label_file), classes)
        except InputError as error:
            label_problems.append(str(error))
        label_problems += [f"{label_file}:{line}: {message}" for line, message in scan.problems]
    return DarknetImage(path, size, problem, scan.labels, label_problems, has_labels, scan.polygons, scan.scores)
