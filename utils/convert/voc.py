"""Pascal VOC's XML, one file an image, read into Annotations.

Format: the VOC2012 development kit, section 8. An object has <name>, <difficult> and <bndbox> with the pixels
xmin, ymin, xmax, ymax, counted from 1 and all inside the box.
"""

import math
from pathlib import Path
from xml.etree import ElementTree

from tqdm import tqdm

from utils.convert.annotations import AnnotatedImage, Annotations, Box
from utils.dataset.images import IMAGE_SUFFIXES
from utils.errors import InputError
from utils.files import read_text

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_SUFFIXES = sorted(IMAGE_SUFFIXES, key=lambda suffix: (suffix != ".jpg", suffix))


def read_voc(folder, findings, lists=(), keep_difficult=False, origin=1):
    """Read a folder of VOC XML files, sub-folders included.

    Args:
        folder: of the XML files.
        findings: Findings; files and objects that are broken are added, the rest is read.
        lists: {set: file of names, one a line, as in VOC's ImageSets/Main}; if empty, all files are the set "train".
        keep_difficult: take objects marked <difficult>; else they are counted as left out.
        origin: 1 when corners are pixels counted from 1, as VOC has it; 0 when they are positions counted from 0.
    Returns:
        {set: Annotations}; the class names are all that occur, sorted, the same for every set.
    Raises:
        InputError: no XML files, a list that cannot be read, no object in any file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: expected the folder of the XML files")
    files = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.xml"))}
    if not files:
        raise InputError(f"{folder}: expected XML files in this folder, found none")
    wanted = {"train": list(files)} if not lists else {key: _read_list(path) for key, path in lists.items()}
    sets = {key: [] for key in wanted}
    for key, names in wanted.items():
        for name in tqdm(names, f"{key} annotations", disable=None):
            try:
                if name not in files:
                    raise ValueError("no such XML file, but the list names it")
                content = files[name].read_bytes()
                sets[key].append(read_image(content, files[name], name, findings, keep_difficult, origin))
            except (ValueError, OSError) as error:
                findings.dropped.append(f"{files.get(name, folder / f'{name}.xml')}{_colon(error)}{error}")
    class_names = sorted({box.class_name for images in sets.values() for image in images for box in image.boxes})
    if not class_names:
        reason = f", for example {findings.dropped[0]}" if findings.dropped else ""
        raise InputError(f"{folder}: expected XML files with objects, found none{reason}")
    return {key: Annotations(tuple(class_names), images) for key, images in sets.items()}


def _colon(error):
    """Messages about the XML itself begin with their line number."""
    return ":" if isinstance(error, _MalformedXml) else ": "


class _MalformedXml(ValueError):
    pass


def _read_list(path):
    """Names in a list of VOC's; a second column (-1, 0 or 1 in the lists of one class) does not matter."""
    names = []
    for line in read_text(path).split("\n"):
        name, _, mark = line.strip().rpartition(" ")
        names.append(name.strip() if name and mark in ("-1", "0", "1") else line.strip())
    names = [name for name in names if name]
    if not names:
        raise InputError(f"{path}: expected names of annotation files without .xml, one a line, found none")
    return names


def read_image(content, path, name, findings, keep_difficult=False, origin=1):
    """Read one XML file.

    Args:
        content: its bytes.
        path: of the file, for messages.
        name: the file's path inside the folder of annotations, without ending; the image's is alike.
        findings, keep_difficult, origin: as in `read_voc`.
    Returns:
        AnnotatedImage.
    Raises:
        ValueError: not XML, or not VOC's; the message does not name the file.
    """
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        reason = str(error).partition(": line")[0].partition(": column")[0]
        raise _MalformedXml(f"{error.position[0]}: malformed XML: {reason}") from error
    except (LookupError, ValueError) as error:  # the encoding that its first line declares is unknown or multi-byte
        raise _MalformedXml(f"1: malformed XML: {error}; UTF-8 can be read") from error
    if root.tag != "annotation":
        raise ValueError(f"expected VOC's <annotation>, got <{root.tag}>")
    boxes = []
    for number, item in enumerate(root.iter("object"), 1):
        class_name = " ".join((item.findtext("name") or "").split())
        where = f"{path}: object {number}" + (f" ({class_name})" if class_name else "")
        try:
            if not class_name:
                raise ValueError("expected a <name>, found none")
            corners = _read_corners(item, origin)
        except ValueError as error:
            findings.dropped.append(f"{where}: {error}")
            continue
        if (item.findtext("difficult") or "").strip() == "1" and not keep_difficult:
            findings.left_out["difficult boxes (--keep-difficult takes them)"] += 1
        else:
            boxes.append(Box(class_name, corners, where))
    return AnnotatedImage(_image_names(name, root.findtext("filename")), _read_size(root), boxes, str(path))


def _read_corners(item, origin):
    """(x1, y1, x2, y2) in pixels, edges of the image at 0 and its size."""
    values = []
    for key in _CORNERS:
        text = (item.findtext(f"bndbox/{key}") or "").strip()
        try:
            values.append(float(text))
        except ValueError:
            raise ValueError(f"<{key}>: expected a number, got {text!r}") from None
    left, top, right, bottom = values
    # Pixel 1 covers 0…1: its left edge is one less than its number, its right edge is its number.
    return (left - origin, top - origin, right, bottom)


def _read_size(root):
    """(width, height), or None where the file has none or zeros, as some programs write."""
    texts = [(root.findtext(f"size/{key}") or "0").strip() for key in ("width", "height")]
    try:
        size = tuple(float(text) for text in texts)
    except ValueError:
        size = (math.nan, math.nan)
    if not all(math.isfinite(side) and side >= 0 for side in size):
        raise ValueError(f"<size>: expected width and height, got {texts[0]!r} and {texts[1]!r}")
    return size if all(size) else None


def _image_names(name, file_name):
    """What the image may be called; the XML's own name counts more than its <filename>, which may be an older one."""
    parent, stem = Path(name).parent, Path(name).name
    own = [f"{name}{suffix}" for lower in _SUFFIXES for suffix in (lower, lower.upper())]
    # Only the last part: many programs write the annotator's own folders into it.
    file_name = (file_name or "").strip().replace("\\", "/").rpartition("/")[2]
    if not file_name:
        return tuple(own)
    stated = [(parent / file_name).as_posix(), file_name]
    return (*stated, *own) if Path(file_name).stem == stem else (*own, *stated)
