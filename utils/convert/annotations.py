"""Annotations of other formats to darknet labels: what the readers deliver, and how boxes find their images.

A reader (utils.convert.coco, utils.convert.voc) turns files into `Annotations`; `locate` finds the images and
turns corners in pixels into labels; utils.convert.darknet writes them. Whatever is broken is dropped and said in
`Findings`.
"""

import math
import os
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import NamedTuple

from tqdm import tqdm

from utils.dataset.images import image_size, is_image_name
from utils.errors import InputError
from utils.files import find_path

EDGE_TOLERANCE = 1.0  # pixels a box may stick out of its image unmentioned: annotators round to whole pixels
ASPECT_TOLERANCE = 0.02  # an image may have been resized after it was annotated, but not by a factor an axis
MIN_SIDE = 1e-6  # of the image; a side below this is no box and would be rounded away in the label file


class Box(NamedTuple):
    """One annotated object as a reader found it."""

    class_name: str
    corners: tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels, the image's edges are 0 and its size
    where: str  # file and entry, for messages


class AnnotatedImage(NamedTuple):
    """One image as a reader found it; whether the file exists is not known yet."""

    file_names: tuple[str, ...]  # what the file may be called inside the folder of images, best guess first
    size: tuple[float, float] | None  # width and height in pixels when it was annotated, None if not said
    boxes: list[Box]
    where: str


class LabelledImage(NamedTuple):
    """An image that exists, with its labels."""

    path: Path
    name: PurePath  # relative to the folder of images
    labels: list[tuple[int, float, float, float, float]]  # class, cx, cy, w, h as fractions of the image


@dataclass
class Findings:
    """What a conversion did not carry over unchanged, a line each."""

    dropped: list[str] = field(default_factory=list)  # broken, and not in the result
    changed: list[str] = field(default_factory=list)  # in the result, but cut to the image
    left_out: Counter = field(default_factory=Counter)  # {what was left out because the options say so: how many}


@dataclass
class Annotations:
    """All that a reader found."""

    class_names: tuple[str, ...]
    images: list[AnnotatedImage]


def normalise(corners, size):
    """Corners in pixels to a label box, cut to the image.

    Args:
        corners: (x1, y1, x2, y2) in pixels.
        size: (width, height) in pixels.
    Returns:
        (cx, cy, w, h) as fractions of the image, and by how many pixels the box stuck out.
    Raises:
        ValueError: corners that are not finite, or no area inside the image.
    """
    if not all(math.isfinite(value) for value in corners):
        raise ValueError(f"expected four finite numbers, got the box {_numbers(corners)}")
    width, height = size
    x1, y1, x2, y2 = corners
    excess = max(-x1, -y1, x2 - width, y2 - height, 0.0)
    left, right = (min(max(x, 0.0), width) / width for x in (x1, x2))
    top, bottom = (min(max(y, 0.0), height) / height for y in (y1, y2))
    if right - left < MIN_SIDE or bottom - top < MIN_SIDE:
        raise ValueError(f"box {_numbers(corners)} has no area inside the image of {_size(size)}")
    return ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top), excess


def _numbers(values):
    return " ".join(f"{value:g}" for value in values)


def _size(size):
    return f"{size[0]:g}x{size[1]:g} pixels"


def choose_classes(sets, chosen=None, chosen_from=None):
    """The class names of the result, in its order.

    Args:
        sets: {name of the set: Annotations}, the training set first.
        chosen: names that the user wants, in the order wanted, or None for all.
        chosen_from: file that they come from, for messages.
    Raises:
        InputError: a wanted class that no set has; a later set with a class that the first has not.
    """
    known = {name for annotations in sets.values() for name in annotations.class_names}
    if chosen is not None:
        for name in chosen:
            if name not in known:
                raise InputError(f"{chosen_from}: class {name!r} is not in the annotations: {_some(sorted(known))}")
        return tuple(chosen)
    (first, annotations), *others = sets.items()
    for other, more in others:
        extra = [name for name in more.class_names if name not in annotations.class_names]
        if extra:
            raise InputError(f"the {other} annotations have classes that {first} has not: {_some(extra)}")
    return annotations.class_names


def _some(names, most=10):
    return ", ".join(map(repr, names[:most])) + (", …" if len(names) > most else "")


def locate(images, folder, class_names, findings):
    """Find the image of each annotation and turn its boxes into labels.

    Args:
        images: list of AnnotatedImage.
        folder: where the images are, with or without sub-folders.
        class_names: classes of the result; boxes of others are counted as left out.
        findings: Findings, added to.
    Returns:
        list of LabelledImage, in the order of `images`.
    Raises:
        InputError: the folder is missing or holds none of the images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: expected the folder of the images")
    paths = [_find_image(image, folder) for image in images]
    if images and not any(path.is_file() for path in paths):
        raise InputError(f"{folder}: holds none of the {len(images)} annotated images, for example {paths[0]}")
    class_ids = {name: number for number, name in enumerate(class_names)}
    taken = {}
    located = []
    with ThreadPoolExecutor() as pool:
        sizes = pool.map(_size_or_error, paths)
        for image, path, size in tqdm(zip(images, paths, sizes, strict=True), "images", len(images), disable=None):
            problem = _unusable(image, path, size, folder)
            stem = path.with_suffix("")
            if problem is None and stem in taken:
                problem = f"{path} would share its label file with {taken[stem]}"
            if problem:
                findings.dropped.append(f"{image.where}: {problem}")
                continue
            taken[stem] = path
            labels = _label_boxes(image, image.size or size, class_ids, findings)
            located.append(LabelledImage(path, path.relative_to(folder), labels))
    return located


def _find_image(image, folder):
    """The first spelling that exists, else where the first one would be; `..` resolved in the text only."""
    candidates = [Path(os.path.normpath(find_path(name, [folder]))) for name in image.file_names]
    return next((path for path in candidates if path.is_file()), candidates[0])


def _size_or_error(path):
    """(width, height), or the text of what is wrong."""
    if not path.is_file():
        return f"image not found: {path}"
    try:
        return image_size(path)
    except InputError as error:
        return str(error)


def _unusable(image, path, size, folder):
    """Why this image cannot be in the result, or None."""
    if isinstance(size, str):
        return size
    if not path.is_relative_to(os.path.normpath(folder)):
        return f"image {path} is not inside {folder}"
    if not is_image_name(path) or "\n" in str(path) or "\r" in str(path):
        return f"a list of images cannot hold the name {path.name!r}"
    if image.size is not None:
        across, down = size[0] / image.size[0], size[1] / image.size[1]
        # One pixel of rounding is no change of aspect, however small the image.
        tolerance = ASPECT_TOLERANCE + 1 / min(size)
        if abs(across / down - 1) > tolerance:
            return f"annotated at {_size(image.size)}, but {path} has {_size(size)}"
    return None


def _label_boxes(image, size, class_ids, findings):
    labels = []
    for box in image.boxes:
        if box.class_name not in class_ids:
            findings.left_out[f"boxes of class {box.class_name!r}, which --names has not"] += 1
            continue
        try:
            label, excess = normalise(box.corners, size)
        except ValueError as error:
            findings.dropped.append(f"{box.where}: {error}")
            continue
        if excess > EDGE_TOLERANCE:
            findings.changed.append(f"{box.where}: box {_numbers(box.corners)} cut to the image of {_size(size)}")
        labels.append((class_ids[box.class_name], *label))
    return labels


def split_images(images, fraction, seed):
    """Divide one set into two at random, the same way for the same seed and file names.

    Args:
        images: list of LabelledImage.
        fraction: share of the first part; above 0 and below 1, each part gets at least one image if there are two.
        seed: of the shuffle.
    Returns:
        two lists of LabelledImage, each sorted by name.
    """
    ordered = sorted(images, key=lambda image: image.name)
    random.Random(seed).shuffle(ordered)
    count = round(fraction * len(ordered))
    if 0 < fraction < 1 and len(ordered) > 1:
        count = min(max(count, 1), len(ordered) - 1)
    by_name = {"key": lambda image: image.name}
    return sorted(ordered[:count], **by_name), sorted(ordered[count:], **by_name)
