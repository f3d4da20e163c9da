"""Read a folder of Pascal VOC XML files, one per image.

Format: the VOC2012 development kit, section 8. An object has a <name>, <difficult> and a <bndbox>: xmin, ymin,
xmax, ymax are the first and last pixels inside the box, counted from 1. Other programs write coordinates from 0, with
fractions, or a <polygon> with x1, y1, x2, y2, … instead of the box.
"""

import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.etree import ElementTree

from tqdm import tqdm

from utils.convert.annotations import AnnotatedImage, Annotations, Box, Problems
from utils.convert.options import SETS, ImportOptions, SetSource, set_of
from utils.dataset.images import IMAGE_SUFFIXES
from utils.errors import InputError
from utils.files import read_bytes, read_text
from utils.text import shorten

TITLE = "a folder of VOC XML files"

_LISTS = Path("ImageSets", "Main")
# Coordinates from 0 have fractions in most boxes; VOC2012, which counts pixels from 1, has them in a few by mistake.
_FRACTION_SHARE = 0.01
_SUFFIXES = sorted(IMAGE_SUFFIXES, key=lambda suffix: (suffix != ".jpg", suffix))


class _Object(NamedTuple):
    """One object as its file describes it."""

    class_name: str
    corners: tuple[float, float, float, float]  # xmin, ymin, xmax, ymax
    is_polygon: bool  # the corners are those of a polygon: coordinates from 0
    where: str


def recognize(source: Path) -> bool:
    """Return whether `source` is a folder of this format."""
    return source.is_dir() and any(map(_is_annotation, source.rglob("*.xml")))


def _is_annotation(path: Path) -> bool:
    """Return whether an XML file may be an annotation; projects have other XML files too."""
    try:
        with path.open("rb") as file:
            start = file.read(1000).replace(b"\0", b"")  # UTF-16 has NULs between the letters
    except OSError:
        return False
    return b"<annotation" in start


def find_sets(source: Path, options: ImportOptions) -> dict[str, SetSource]:
    """Find the sets of a folder of VOC XML files: those of its sub-folders or of ImageSets/Main, or a single one."""
    if not recognize(source):
        return {}
    annotated = [path.parent for path in source.rglob("Annotations") if path.is_dir() and any(path.glob("*.xml"))]
    if options.images is None and len(annotated) == 1:
        (source,) = annotated  # `source` may be a repository that has other files too
    if options.val or options.train_list or options.images:
        return options.sets_of(source)
    lists = {set_of(path.stem): path for path in (source / _LISTS).glob("*.txt") if path.stem in SETS}
    if "train" in lists:
        return {key: SetSource(source, None, path) for key, path in sorted(lists.items())}
    folders = [path for path in sorted(source.iterdir()) if set_of(path.name) and recognize(path)]
    sets = {set_of(path.name): SetSource(path, None, None) for path in folders}
    own = any(path.suffix == ".xml" for path in source.iterdir()) or (source / "Annotations").is_dir()
    return sets if "train" in sets and len(sets) == len(folders) and not own else options.sets_of(source)


def read(part: SetSource, options: ImportOptions, problems: Problems) -> Annotations:
    """Read a folder of VOC XML files and its sub-folders; broken files and objects are added to `problems`.

    Raises:
        InputError: no XML files, or a list that cannot be read.
    """
    folder = part.source / "Annotations" if (part.source / "Annotations").is_dir() else part.source
    files = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.xml"))}
    if not files:
        raise InputError(f"{folder}: expected a folder of VOC XML files, found no .xml file")
    found = []
    for entry in tqdm(_read_list(part.image_list) if part.image_list else files, "annotations", disable=None):
        name = next((name for name in _listed_names(entry) if name in files), None)
        if name is None:
            problems.dropped.append(f"{folder / entry}.xml: file not found, but {part.image_list} lists it")
            continue
        try:
            found.append(_read_file(files[name], name, options, problems))
        except InputError as error:
            problems.dropped.append(str(error))
    objects = [item for _, objects in found for item in objects]
    if count := sum(item.is_polygon for item in objects):
        problems.notes.append(f"{folder}: {count} objects without <bndbox> get the bounding box of their <polygon>")
    origin = options.origin
    if origin is None:
        origin = _find_origin([item for item in objects if not item.is_polygon], folder, problems)
    return Annotations(
        [image._replace(boxes=[_to_box(item, origin) for item in items]) for image, items in found], None
    )


def _find_origin(objects: Sequence[_Object], folder: Path, problems: Problems) -> int:
    """Return the coordinate of the first pixel, 0 or 1, for all files of a set."""
    at_zero = [item for item in objects if any(0 <= value < 1 for value in item.corners)]
    fractions = [item for item in objects if any(value % 1 for value in item.corners)]
    if at_zero:
        first, reason = at_zero[0], f"{len(at_zero)} of {len(objects)} boxes have a corner at 0"
    elif len(fractions) > _FRACTION_SHARE * len(objects):
        first, reason = fractions[0], f"{len(fractions)} of {len(objects)} boxes have fractions"
    else:
        return 1
    problems.notes.append(
        f"{folder}: corners are read as coordinates from 0, because {reason} (first {first.where}); --origin 1 reads "
        "them as pixels counted from 1"
    )
    return 0


def _to_box(item: _Object, origin: int) -> Box:
    left, top, right, bottom = item.corners
    # Pixel 1 spans 0…1: its left edge is one less than its coordinate, its right edge equals it.
    shift = 0 if item.is_polygon else origin
    return Box(item.class_name, (left - shift, top - shift, right, bottom), item.where)


def _read_list(path: Path) -> list[str]:
    """Return the lines of a list as in ImageSets/Main."""
    lines = [line.strip() for line in read_text(path).split("\n") if line.strip()]
    if not lines:
        raise InputError(f"{path}: expected one name of an XML file per line, without .xml, found none")
    return lines


def _listed_names(entry: str) -> tuple[str, ...]:
    """Return the possible names of the XML file of an entry of a list.

    Some lists contain names of images or XML files. Lists of one class have a second column: -1, 0 or 1.
    """
    entry = entry.replace("\\", "/")
    name, _, mark = entry.rpartition(" ")
    names = [entry, name.strip()] if name.strip() and mark in ("-1", "0", "1") else [entry]
    for path in map(PurePosixPath, tuple(names)):
        if path.suffix.lower() in (*IMAGE_SUFFIXES, ".xml"):
            names += [str(path.with_suffix("")), path.stem]
    return tuple(names)


def _read_file(
    path: Path, name: str, options: ImportOptions, problems: Problems
) -> tuple[AnnotatedImage, list[_Object]]:
    """Read the image and the objects of one XML file, named `name` without .xml; the image has no boxes yet."""
    root = _parse(path)
    objects = []
    for position, item in enumerate(root.iter("object"), 1):
        if not len(item):
            problems.skipped["empty <object> elements"] += 1
            continue
        class_name = " ".join((item.findtext("name") or "").split())
        where = f"{path}: object {position}" + (f" ({class_name})" if class_name else "")
        try:
            if not class_name:
                raise ValueError("expected a <name>, found none")
            is_polygon = item.find("bndbox") is None and item.find("polygon") is not None
            corners = _polygon_corners(item) if is_polygon else _box_corners(item)
        except ValueError as error:
            problems.dropped.append(f"{where}: {error}")
            continue
        if (item.findtext("difficult") or "").strip() == "1" and not options.keep_difficult:
            problems.skipped["difficult boxes (--keep-difficult keeps them)"] += 1
        else:
            objects.append(_Object(class_name, corners, is_polygon, where))
    try:
        size = (_read_number(root, "size/width", "0"), _read_number(root, "size/height", "0"))
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    if any(side and side < 1 for side in size):
        raise InputError(f"{path}: <size>: expected a width and height of 1 or more, got {size[0]:g} and {size[1]:g}")
    # Some programs write a size of 0.
    names = _image_names(name, root.findtext("filename"))
    return AnnotatedImage(names, size if all(size) else None, [], str(path)), objects


def _box_corners(item: ElementTree.Element) -> tuple[float, float, float, float]:
    left, top, right, bottom = (_read_number(item, f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax"))
    return left, top, right, bottom


def _polygon_corners(item: ElementTree.Element) -> tuple[float, float, float, float]:
    """Return the bounding box of <polygon>, with the points <x1>, <y1>, <x2>, …"""
    tags = [element.tag for element in item.find("polygon")]
    xs, ys = ([_read_number(item, f"polygon/{tag}") for tag in tags if tag.startswith(axis)] for axis in "xy")
    if len(xs) != len(ys) or len(xs) < 3:
        raise ValueError(f"<polygon>: expected three or more points, got {len(xs)} x and {len(ys)} y")
    return min(xs), min(ys), max(xs), max(ys)


def _parse(path: Path) -> ElementTree.Element:
    content = read_bytes(path)
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        reason = str(error).partition(": line")[0].partition(": column")[0]
        raise InputError(f"{path}:{error.position[0]}: malformed XML: {reason}") from error
    except (LookupError, ValueError) as error:  # an unknown or multi-byte encoding in the first line
        raise InputError(f"{path}:1: malformed XML: {error}; save the file as UTF-8") from error
    if root.tag != "annotation":
        raise InputError(f"{path}: expected <annotation> as the root of a VOC file, got <{root.tag}>")
    return root


def _read_number(element: ElementTree.Element, key: str, default: str = "") -> float:
    text = (element.findtext(key) or default).strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"<{key.rpartition('/')[2]}>: expected a number, got {shorten(text, 60)!r}")
    return value


def _image_names(name: str, file_name: str | None) -> tuple[str, ...]:
    """Return possible names of the image. A <filename> unlike the XML file's name is outdated, so it comes last."""
    parent, stem = Path(name).parent, Path(name).name
    own = [f"{name}{suffix}" for lower in _SUFFIXES for suffix in (lower, lower.upper())]
    # Many programs write the folders of the annotator's computer into <filename>.
    file_name = (file_name or "").strip().replace("\\", "/").rpartition("/")[2]
    if not file_name:
        return tuple(own)
    stated = [(parent / file_name).as_posix(), file_name]
    return (*stated, *own) if Path(file_name).stem == stem else (*own, *stated)
