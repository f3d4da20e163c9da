"""Read the object boxes of a COCO JSON file.

Format: https://cocodataset.org/#format-data. A box is [x, y, width, height] in pixels, x and y of its upper left
corner.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from utils.convert.annotations import AnnotatedImage, Annotations, Box, Problems
from utils.convert.options import ImportOptions, SetSource
from utils.errors import InputError
from utils.files import read_text
from utils.text import shorten

TITLE = "a COCO JSON file"
OPTIONS = ("keep_crowds",)

_LARGEST = 1e9  # pixels; larger numbers are mistakes


def recognize(source: Path) -> bool:
    """Return whether `source` is a file of this format."""
    return source.is_file() and source.suffix.lower() == ".json"


def read(part: SetSource, options: ImportOptions, problems: Problems) -> Annotations:
    """Read a COCO JSON file; broken images and annotations are added to `problems`.

    The classes are all categories in the order of their ids, which need not be contiguous.

    Raises:
        InputError: not JSON, not the structure of COCO, or a broken category.
    """
    path = part.source
    content = _parse(path)
    names = _category_names(path, content)
    images = {}
    for where, entry in _entries(path, content, "images", problems.dropped):
        size = (entry.get("width"), entry.get("height"))
        image = AnnotatedImage((entry["file_name"],), size if None not in size else None, [], where)
        if images.setdefault(entry["id"], image) is not image:
            problems.dropped.append(
                f"{where}: id: expected a unique id, got that of {images[entry['id']].file_names[0]}"
            )
    for where, entry in _entries(path, content, "annotations", problems.dropped):
        image, class_name = images.get(entry["image_id"]), names.get(entry["category_id"])
        if image is None or class_name is None:
            key = "image_id" if image is None else "category_id"
            problems.dropped.append(f"{where}: {key}: expected one that is listed, got {_shorten(entry[key])}")
        elif entry.get("iscrowd") and not options.keep_crowds:
            problems.skipped["crowd boxes (--keep-crowds keeps them)"] += 1
        else:
            x, y, width, height = entry["bbox"]
            image.boxes.append(Box(class_name, (x, y, x + width, y + height), where))
    return Annotations(list(images.values()), tuple(names.values()))


def _parse(path: Path) -> dict:
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: expected JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise InputError(f"{path}: expected COCO JSON, got lists that are nested too deep") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a COCO JSON object, got a {type(content).__name__}")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            got = f"a {type(content[key]).__name__}" if key in content else "no such key"
            raise InputError(f"{path}: {key}: expected a list, got {got}")
        if not content[key] and key != "annotations":
            raise InputError(f"{path}: {key}: expected at least one, got an empty list")
    return content


def _category_names(path: Path, content: dict) -> dict[int | str, str]:
    """Return {category id: name} in the order of the ids."""
    names, broken = {}, []
    for where, entry in _entries(path, content, "categories", broken):
        name = " ".join(entry["name"].split())
        if entry["id"] in names or name in names.values():
            broken.append(f"{where}: expected a unique id and name, got {_shorten(entry)}")
        names[entry["id"]] = name
    if broken:
        raise InputError(broken[0])
    # The format says that ids are integers; strings are accepted and sorted after them.
    return dict(sorted(names.items(), key=lambda item: (isinstance(item[0], str), item[0])))


def _entries(path: Path, content: dict, key: str, dropped: list[str]) -> Iterator[tuple[str, dict]]:
    """Yield (where, entry) for the valid entries of a list; add the others to `dropped`."""
    for position, entry in enumerate(content[key]):
        where = f"{path}: {key}[{position}]"
        if not isinstance(entry, dict):
            dropped.append(f"{where}: expected an object, got {_shorten(entry)}")
            continue
        if _is_id(entry.get("id")) and key != "categories":
            where = f"{path}: {key[:-1]} id {entry['id']}"
        for name, (is_valid, expected) in _FIELDS[key].items():
            if not is_valid(entry.get(name)):
                dropped.append(f"{where}: {name}: expected {expected}, got {_shorten(entry.get(name))}")
                break
        else:
            yield where, entry


def _is_id(value: object) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value


def _is_number(value: object) -> bool:
    """Return whether a value can be a coordinate; NaN and infinity cannot."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _is_side(value: object) -> bool:
    return value is None or (_is_number(value) and value > 0)


def _is_box(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


_ID, _SIDE = (_is_id, "an id"), (_is_side, "a number above 0")
# {list: {field of its entries: (check, expected value in words)}}
_FIELDS = {
    "categories": {"id": _ID, "name": (_is_name, "a name")},
    "images": {"id": _ID, "file_name": (_is_name, "a file name"), "width": _SIDE, "height": _SIDE},
    "annotations": {"image_id": _ID, "category_id": _ID, "bbox": (_is_box, "the numbers [x, y, width, height]")},
}


def _shorten(value: object) -> str:
    return shorten(json.dumps(value, ensure_ascii=False), 60)
