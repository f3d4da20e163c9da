"""Read a folder of Pascal VOC XML files, one per image.

Format: the VOC2012 development kit, section 8. An object has a <name>, <difficult> and a <bndbox>: xmin, ymin,
xmax, ymax are the first and last pixels inside the box, counted from 1.
"""

import math
from pathlib import Path
from xml.etree import ElementTree

from tqdm import tqdm

from utils.convert.annotations import AnnotatedImage, Annotations, Box, Problems
from utils.convert.options import ImportOptions, SetSource
from utils.dataset.images import IMAGE_SUFFIXES
from utils.errors import InputError
from utils.files import read_text

TITLE = "a folder of VOC XML files"
OPTIONS = ("train_list", "val_list", "keep_difficult", "origin")

_SUFFIXES = sorted(IMAGE_SUFFIXES, key=lambda suffix: (suffix != ".jpg", suffix))


def recognize(source: Path) -> bool:
    """Return whether `source` is a folder of this format."""
    return source.is_dir() and any(source.rglob("*.xml"))


def read(part: SetSource, options: ImportOptions, problems: Problems) -> Annotations:
    """Read a folder of VOC XML files and its sub-folders; broken files and objects are added to `problems`.

    Raises:
        InputError: no XML files, or a list that cannot be read.
    """
    folder = part.source / "Annotations" if (part.source / "Annotations").is_dir() else part.source
    files = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.xml"))}
    if not files:
        raise InputError(f"{folder}: expected a folder of VOC XML files, found no .xml file")
    images = []
    for name in tqdm(_read_list(part.image_list) if part.image_list else files, "annotations", disable=None):
        if name not in files:
            problems.dropped.append(f"{folder / name}.xml: file not found, but {part.image_list} lists it")
            continue
        try:
            images.append(_read_file(files[name], name, options, problems))
        except InputError as error:
            problems.dropped.append(str(error))
    return Annotations(images, None)


def _read_list(path: Path) -> list[str]:
    """Return the names in a list as in ImageSets/Main; lists of one class have a second column: -1, 0 or 1."""
    names = []
    for line in filter(None, map(str.strip, read_text(path).split("\n"))):
        name, _, mark = line.rpartition(" ")
        names.append(name.strip() if name and mark in ("-1", "0", "1") else line)
    if not names:
        raise InputError(f"{path}: expected one name of an XML file per line, without .xml, found none")
    return names


def _read_file(path: Path, name: str, options: ImportOptions, problems: Problems) -> AnnotatedImage:
    """Read one XML file; `name` is its path inside the folder of annotations, without .xml."""
    root = _parse(path)
    boxes = []
    for position, item in enumerate(root.iter("object"), 1):
        class_name = " ".join((item.findtext("name") or "").split())
        where = f"{path}: object {position}" + (f" ({class_name})" if class_name else "")
        try:
            if not class_name:
                raise ValueError("expected a <name>, found none")
            left, top, right, bottom = (_read_number(item, f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax"))
        except ValueError as error:
            problems.dropped.append(f"{where}: {error}")
            continue
        if (item.findtext("difficult") or "").strip() == "1" and not options.keep_difficult:
            problems.skipped["difficult boxes (--keep-difficult keeps them)"] += 1
        else:
            # Pixel 1 spans 0…1: its left edge is one less than its coordinate, its right edge equals it.
            corners = (left - options.origin, top - options.origin, right, bottom)
            boxes.append(Box(class_name, corners, where))
    try:
        size = (_read_number(root, "size/width", "0"), _read_number(root, "size/height", "0"))
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    if min(size) < 0:
        raise InputError(f"{path}: <size>: expected a width and height above 0, got {size[0]:g} and {size[1]:g}")
    # Some programs write a size of 0.
    return AnnotatedImage(_image_names(name, root.findtext("filename")), size if all(size) else None, boxes, str(path))


def _parse(path: Path) -> ElementTree.Element:
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror}") from error
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
        raise ValueError(f"<{key.rpartition('/')[2]}>: expected a number, got {text!r}")
    return value


def _image_names(name: str, file_name: str | None) -> tuple[str, ...]:
    """Return possible names of the image; a <filename> that differs from the XML file's name is outdated, so last."""
    parent, stem = Path(name).parent, Path(name).name
    own = [f"{name}{suffix}" for lower in _SUFFIXES for suffix in (lower, lower.upper())]
    # Many programs write the folders of the annotator's computer into <filename>.
    file_name = (file_name or "").strip().replace("\\", "/").rpartition("/")[2]
    if not file_name:
        return tuple(own)
    stated = [(parent / file_name).as_posix(), file_name]
    return (*stated, *own) if Path(file_name).stem == stem else (*own, *stated)
