"""Read the entries of a COCO JSON file.

Programs write an id as 7, 7.0 or "7", and a flag as 1, 1.0, "1" or true; all are accepted.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from utils.errors import InputError
from utils.files import parse_json, read_text
from utils.text import shorten

_LARGEST = 1e9  # pixels; larger numbers are mistakes
_DIGITS = 18  # of the longest id
_ID_TEXT = re.compile(rf"-?[0-9]{{1,{_DIGITS}}}(?=(\.0+)?$)")
_FLAGS = {False: False, True: True, "0": False, "1": True, "false": False, "true": True, "": False, None: False}


def parse(path: Path) -> dict:
    """Read a COCO JSON file.

    Raises:
        InputError: not JSON, or not the three lists of COCO.
    """
    content = parse_json(read_text(path), path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a COCO JSON object, got a {type(content).__name__}")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            got = f"a {type(content[key]).__name__}" if key in content else "no such key"
            raise InputError(f"{path}: {key}: expected a list, got {got}")
        if not content[key] and key != "annotations":
            raise InputError(f"{path}: {key}: expected at least one, got an empty list")
    return content


def read_entries(path: Path, content: dict, key: str, dropped: list[str]) -> Iterator[tuple[str, dict]]:
    """Yield (where, entry) for the valid entries of a list; add the others to `dropped`.

    Args:
        path: for messages.
        content: from `parse`.
        key: "images", "annotations" or "categories".
        dropped: gets one line per entry that is not valid.
    """
    for position, entry in enumerate(content[key]):
        where = f"{path}: {key}[{position}]"
        if not isinstance(entry, dict):
            dropped.append(f"{where}: expected an object, got {show(entry)}")
            continue
        values = dict(entry)
        if key != "categories":
            with contextlib.suppress(ValueError):  # without a valid id, the position says where
                where = f"{path}: {key[:-1]} id {shorten(str(_read_id(entry.get('id'))), 60)}"
        for name, (read, expected) in _FIELDS[key].items():
            try:
                values[name] = read(entry.get(name))
            except ValueError:
                dropped.append(f"{where}: {name}: expected {expected}, got {show(entry.get(name))}")
                break
        else:
            yield where, values


def polygon_box(segmentation: object) -> list[float] | None:
    """Return the bounding box [x, y, width, height] of polygons [[x1, y1, x2, y2, …], …]; None for other values."""
    polygons = segmentation if isinstance(segmentation, list) else []
    if not all(isinstance(points, list) and len(points) >= 6 and len(points) % 2 == 0 for points in polygons):
        return None
    numbers = [value for points in polygons for value in points]
    if not numbers or not all(map(_is_number, numbers)):
        return None
    x, y = min(numbers[0::2]), min(numbers[1::2])
    return [x, y, max(numbers[0::2]) - x, max(numbers[1::2]) - y]


def show(value: object) -> str:
    """Return a value of the file for a message: one short line that every terminal and file can contain."""
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
    return shorten(text, 60)


# The readers below raise ValueError for other values.


def _read_id(value: object) -> int | str:
    if type(value) is int or (isinstance(value, float) and value.is_integer()):
        return int(value)
    text = _read_text(value).strip()
    number = _ID_TEXT.match(text)
    return int(number[0]) if number else text


def _read_text(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError
    value.encode()  # a lone surrogate raises UnicodeEncodeError, which is a ValueError
    return value


def _read_flag(value: object) -> bool:
    try:
        return _FLAGS[value.strip().lower() if isinstance(value, str) else value]
    except (KeyError, TypeError):
        raise ValueError from None


def _is_number(value: object) -> bool:
    """Return whether a value can be a coordinate; NaN and infinity cannot."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _read_side(value: object) -> float | None:
    if value is not None and not (_is_number(value) and value >= 1):
        raise ValueError
    return value


def _read_box(value: object) -> list[float]:
    if not isinstance(value, list) or len(value) != 4 or not all(map(_is_number, value)):
        raise ValueError
    return value


_ID, _SIDE, _FLAG = (_read_id, "an id"), (_read_side, "a number of 1 or more"), (_read_flag, "0 or 1")
# {list: {field of its entries: (function that reads it, expected value in words)}}
_FIELDS: dict[str, dict[str, tuple[Callable[[object], object], str]]] = {
    "categories": {"id": _ID, "name": (_read_text, "a name")},
    "images": {"id": _ID, "file_name": (_read_text, "a file name"), "width": _SIDE, "height": _SIDE},
    "annotations": {
        **{"image_id": _ID, "category_id": _ID, "bbox": (_read_box, "the numbers [x, y, width, height]")},
        **{"iscrowd": _FLAG, "ignore": _FLAG},
    },
}
