"""Find the image of each annotation, and convert its boxes to labels."""

import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import NamedTuple

from tqdm import tqdm

from utils.convert.annotations import AnnotatedImage, Problems, is_line
from utils.convert.rotation import find_stored, fits, turn
from utils.dataset.images import TRANSPOSED, ImageHeader, is_image_name, read_header
from utils.errors import InputError
from utils.files import find_path
from utils.text import list_names, printable, shorten

EDGE_TOLERANCE = 1.0  # pixels by which a box may extend beyond its image without a message: rounding
MIN_SIDE = 1e-6  # fraction of the image; boxes with a smaller side are dropped
MAX_SHOWN = 300  # characters of a path in a message

Label = tuple[int, float, float, float, float]  # class id, cx, cy, w, h as fractions of the image


class LabeledImage(NamedTuple):
    """An image that exists, with its labels."""

    path: Path
    name: PurePath  # relative to the folder of images
    labels: list[Label]


def find_images(images: Sequence[AnnotatedImage], folders: Sequence[Path]) -> tuple[Path, list[Path]]:
    """Return the first folder that has any of the images, and the path of each image in it.

    Raises:
        InputError: no folder has any of them.
    """
    for folder in filter(Path.is_dir, folders):
        paths = [_find_image(image, folder) for image in images]
        if not images or any(map(os.path.isfile, paths)):
            return folder, paths
    places = list_names([str(folder) for folder in folders if folder.is_dir() or len(folders) == 1])
    names = ", ".join(shorten(printable(image.file_names[0]), MAX_SHOWN) for image in images[:2])
    raise InputError(f"{places}: expected the images ({names}, …), found none of {len(images)}; use --images FOLDER")


def _find_image(image: AnnotatedImage, folder: Path) -> Path:
    """Return the first possible path that exists, or else the first one; `..` is resolved without following links."""
    candidates = [Path(os.path.normpath(find_path(name, [folder]))) for name in image.file_names]
    # Unlike Path.is_file, os.path.isfile is False if a name is too long.
    return next(filter(os.path.isfile, candidates), candidates[0])


def label_images(
    images: Sequence[AnnotatedImage],
    paths: Sequence[Path],
    folder: Path,
    class_names: Sequence[str],
    problems: Problems,
) -> list[LabeledImage]:
    """Convert the boxes of images to labels.

    Images and boxes that cannot be used are added to `problems`; boxes of other classes are skipped.

    Args:
        class_names: classes to keep, in the order of the class ids.
    """
    class_ids = {name: class_id for class_id, name in enumerate(class_names)}
    labeled = {}  # path: LabeledImage
    with ThreadPoolExecutor() as pool:
        results = pool.map(_usable_header, images, paths, itertools.repeat(folder))
        headers = list(tqdm(results, "images", len(images), disable=None))
    stored, note = find_stored(images, [None if isinstance(header, str) else header for header in headers])
    if note:
        problems.notes.append(f"{folder}: {note}")
    for image, path, header, is_stored in zip(images, paths, headers, stored, strict=True):
        if isinstance(header, str):
            problems.dropped.append(f"{image.where}: {header}")
            continue
        if path in labeled:
            problems.changed.append(f"{image.where}: {path} is annotated again; its boxes are added to the others")
        else:
            labeled[path] = LabeledImage(path, path.relative_to(folder), [])
        other = find_path(image.file_names[-1], [folder])
        if os.path.isfile(other) and not os.path.samefile(other, path):
            problems.changed.append(f"{image.where}: {path} is taken as its image, but {other} exists too")
        orientation = header.orientation if is_stored else 1
        size = image.size or (header.stored_size if is_stored else header.size)
        _add_labels(labeled[path].labels, image, size, orientation, class_ids, problems)
    return list(labeled.values())


def _usable_header(image: AnnotatedImage, path: Path, folder: Path) -> ImageHeader | str:
    """Return the header of an image file, or why the image cannot be used."""
    if not os.path.isfile(path):
        return f"image not found: {shorten(printable(str(path)), MAX_SHOWN)}"
    if not path.is_relative_to(os.path.normpath(folder)):
        return f"image {path} is not inside {folder}"
    if not is_image_name(path) or not is_line(str(path)):
        return f"expected a file name that a list of images can contain, got {path.name!r}"
    try:
        header = read_header(path)
    except InputError as error:
        return str(error)
    if not all(header.size):
        return f"expected an image with pixels, but {path} has {_format_size(header.size)}"
    if not fits(image.size, header.size) and not fits(image.size, header.stored_size):
        return f"annotated at {_format_size(image.size)}, but {path} has {_format_size(header.size)}"
    return header


def _add_labels(
    labels: list[Label],
    image: AnnotatedImage,
    size: tuple[float, float],
    orientation: int,
    class_ids: dict[str, int],
    problems: Problems,
) -> None:
    """Convert the boxes of an image of (width, height) pixels, turn them, and add those that `labels` does not have."""
    known = set(labels)
    turned_size = size[::-1] if orientation in TRANSPOSED else size
    for box in image.boxes:
        fractions, excess = clip_box(turn(box.corners, size, orientation), turned_size)
        corners = " ".join(f"{value:g}" for value in box.corners)
        if box.class_name not in class_ids:
            problems.skipped[f"boxes of class {box.class_name!r}, which is not in --names"] += 1
        elif min(fractions[2:]) < MIN_SIDE:
            problems.dropped.append(f"{box.where}: box {corners} has no area inside the image of {_format_size(size)}")
        elif (label := (class_ids[box.class_name], *fractions)) in known:
            problems.changed.append(f"{box.where}: box {corners} of class {box.class_name!r} is there twice, kept once")
        else:
            known.add(label)
            labels.append(label)
            if excess > EDGE_TOLERANCE:
                problems.changed.append(f"{box.where}: box {corners} cut to the image of {_format_size(size)}")


def clip_box(corners: tuple[float, ...], size: tuple[float, float]) -> tuple[tuple[float, ...], float]:
    """Clip corners in pixels to an image of (width, height) pixels.

    Returns:
        (cx, cy, w, h) as fractions of the image; w or h is 0 or less if the box is outside; and by how many pixels
        the box extends beyond the image.
    """
    width, height = size
    x1, y1, x2, y2 = corners
    left, right = (min(max(x, 0.0), width) / width for x in (x1, x2))
    top, bottom = (min(max(y, 0.0), height) / height for y in (y1, y2))
    excess = max(-x1, -y1, x2 - width, y2 - height, 0.0)
    return ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top), excess


def _format_size(size: tuple[float, float]) -> str:
    return f"{size[0]:g}x{size[1]:g} pixels"
