"""COCO's JSON of object boxes: read into Annotations, and written from darknet labels.

Format: https://cocodataset.org/#format-data. A box is [x, y, w, h] in pixels, x and y of its upper left corner.
"""

import json

from utils.convert.annotations import AnnotatedImage, Annotations, Box
from utils.errors import InputError
from utils.files import read_text


def read_coco(path, findings, keep_crowds=False):
    """Read a COCO JSON.

    The classes are all its categories in the order of their ids, which need not be contiguous.

    Args:
        path: the JSON file.
        findings: Findings; entries that are broken are added, the rest is read.
        keep_crowds: take boxes around groups (`iscrowd`) as objects; else they are counted as left out.
    Returns:
        Annotations.
    Raises:
        InputError: not JSON, not COCO's structure, categories that cannot be told apart.
    """
    content = _parse(path)
    names = _category_names(path, content["categories"])
    images = {}
    for where, entry in _entries(path, content, "images", findings):
        image, problem = _read_image(entry, where)
        if problem is None and entry["id"] in images:
            problem = f"second image with id {entry['id']!r}"
        if problem:
            findings.dropped.append(f"{where}: {problem}")
        else:
            images[entry["id"]] = image
    for where, entry in _entries(path, content, "annotations", findings):
        problem = _broken_annotation(entry, images, names)
        if problem:
            findings.dropped.append(f"{where}: {problem}")
        elif entry.get("iscrowd") and not keep_crowds:
            findings.left_out["crowd boxes (--keep-crowds takes them)"] += 1
        else:
            x, y, width, height = entry["bbox"]
            corners = (x, y, x + width, y + height)
            images[entry["image_id"]].boxes.append(Box(names[entry["category_id"]], corners, where))
    return Annotations(tuple(names.values()), list(images.values()))


def _parse(path):
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: expected JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise InputError(f"{path}: expected COCO's JSON, got lists nested too deep") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected COCO's JSON object, got a {type(content).__name__}")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            got = f"a {type(content[key]).__name__}" if key in content else "no such key"
            raise InputError(f"{path}: {key}: expected a list, got {got}")
    if not content["images"]:
        raise InputError(f"{path}: images: expected at least one, got an empty list")
    return content


def _category_names(path, categories):
    """{category id: name} in the order of the ids."""
    names = {}
    for position, entry in enumerate(categories):
        where = f"{path}: categories[{position}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not _is_id(entry.get("id")):
            raise InputError(f"{where}: expected an id and a name, got {_short(entry)}")
        name = " ".join(entry["name"].split())
        if not name:
            raise InputError(f"{where}: expected a name, got {entry['name']!r}")
        if entry["id"] in names:
            raise InputError(f"{where}: second category with id {entry['id']!r}")
        if name in names.values():
            raise InputError(f"{where}: second category with name {name!r}")
        names[entry["id"]] = name
    if not names:
        raise InputError(f"{path}: categories: expected at least one, got an empty list")
    # Ids are numbers; a file that uses texts is taken too, its ids sorted as texts.
    return dict(sorted(names.items(), key=lambda item: (isinstance(item[0], str), item[0])))


def _entries(path, content, key, findings):
    """(where, entry) of each dictionary in a list; anything else is a finding."""
    for position, entry in enumerate(content[key]):
        if isinstance(entry, dict):
            name = f"{key[:-1]} id {entry['id']}" if _is_id(entry.get("id")) else f"{key}[{position}]"
            yield f"{path}: {name}", entry
        else:
            findings.dropped.append(f"{path}: {key}[{position}]: expected an object, got {_short(entry)}")


def _read_image(entry, where):
    """(AnnotatedImage, None), or (None, what is wrong)."""
    if not _is_id(entry.get("id")):
        return None, f"expected an id, got {_short(entry.get('id'))}"
    name = entry.get("file_name")
    if not isinstance(name, str) or not name or "\0" in name:
        return None, f"expected a file_name, got {_short(name)}"
    size = (entry.get("width"), entry.get("height"))
    if size == (None, None):
        size = None
    elif not all(_is_number(side) and side > 0 for side in size):
        return None, f"expected width and height above 0, got {_short(size[0])} and {_short(size[1])}"
    return AnnotatedImage((name,), size, [], where), None


def _broken_annotation(entry, images, names):
    """What is wrong with an annotation, or None."""
    for key, known in (("image_id", images), ("category_id", names)):
        value = entry.get(key)
        if not _is_id(value) or value not in known:
            return f"{key}: expected one that is listed, got {_short(value)}"
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        return f"bbox: expected [x, y, width, height], got {_short(box)}"
    return None


def _is_id(value):
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _short(value, most=60):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= most else text[: most - 1] + "…"
