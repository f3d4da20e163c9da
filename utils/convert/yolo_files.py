"""The files that describe a data set with YOLO labels: data.yaml, obj.data, and lists of class names.

data.yaml of Ultralytics and Roboflow: the keys train, val and test name folders or lists of images, `names` is a list
or {class id: name}. obj.data of darknet and CVAT: the keys train, valid, names, one `key = value` per line.
"""

import os
import re
import reprlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from utils.config import read_names
from utils.convert.annotations import distinct_names
from utils.convert.options import SET_WORDS
from utils.errors import InputError, RunError
from utils.files import MAX_PATH, find_path, parse_json, read_text
from utils.text import list_names, shorten

YAML_SUFFIXES = (".yaml", ".yml")
_NULLS = ("", "~", "null", "Null", "NULL")  # YAML for no value; the loader does not convert them
# Names of files with class names, in lower case, as labelImg, Roboflow, CVAT, Label Studio and darknet write them.
_NAME_FILES = re.compile(r"classes\.txt|names\.txt|labels\.txt|predefined_classes\.txt|_darknet\.labels|.+\.names")
_NOTES = "notes.json"  # Label Studio
_DARKNET_KEYS = {"train", "valid", "val", "test", "names", "classes", "backup"}


class Description(NamedTuple):
    """Content of a data.yaml or obj.data file."""

    path: Path
    sets: dict[str, list[str]]  # {"train", "val" or "test": its folders or lists of images as they are written}
    class_names: tuple[str, ...] | None
    folders: tuple[Path, ...]  # that paths may be relative to


def read_description(path: Path) -> Description | None:
    """Read a data.yaml or obj.data file; None for other files, such as the .data files of this project.

    Raises:
        InputError: not YAML, or class names that cannot be used.
    """
    if path.suffix.lower() in YAML_SUFFIXES:
        return _read_yaml(path)
    return _read_darknet(path) if path.suffix.lower() == ".data" else None


def _read_yaml(path: Path) -> Description | None:
    try:
        import yaml
    except ImportError as error:
        raise RunError(f"{path}: reading YAML needs the package pyyaml: pip install pyyaml") from error
    try:
        # As safe as yaml.safe_load, but all values stay text: a class may be called `no` or `1`.
        content = yaml.load(read_text(path), Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise InputError(f"{path}:{mark.line + 1 if mark else 1}: expected YAML: {shorten(reason, 200)}") from error
    except RecursionError as error:
        raise InputError(f"{path}: expected YAML, got lists that are nested too deep") from error
    if not isinstance(content, dict) or not content.keys() & {"train", "names"}:
        return None
    content = {key: value for key, value in content.items() if value not in _NULLS}
    sets = {}
    for key, value in content.items():
        if key in SET_WORDS and value:
            values = value if isinstance(value, list) else [value]
            if not all(isinstance(text, str) and text and "\0" not in text for text in values):
                raise InputError(f"{path}: {key}: expected the path of a folder or list, got {_shorten(value)}")
            sets[SET_WORDS[key]] = values
    root = content.get("path") if isinstance(content.get("path"), str) else ""
    folders = (find_moved(root, [path.parent]) or path.parent if root else path.parent, path.parent)
    return Description(path, sets, _yaml_names(path, content), tuple(dict.fromkeys(folders)))


def _yaml_names(path: Path, content: dict) -> tuple[str, ...] | None:
    """Return the names of a data.yaml in the order of the class ids."""
    names = content.get("names")
    if not names:
        return None
    if isinstance(names, str):
        names = [name.strip() for name in names.split(",")]
    if isinstance(names, dict):
        order = [str(class_id) for class_id in range(len(names))]
        if set(order) != names.keys():
            expected = f"class ids 0…{len(names) - 1}, each once"
            raise InputError(f"{path}: names: expected {expected}, got {_shorten(list(names))}")
        names = [names[class_id] for class_id in order]
    if not all(isinstance(name, str) and name.strip() for name in names):
        raise InputError(f"{path}: names: expected a list of class names, got {_shorten(names)}")
    names = tuple(" ".join(name.split()) for name in names)
    if content.get("nc") not in (None, str(len(names))):
        raise InputError(f"{path}: nc: expected {len(names)}, the number of names, got {_shorten(content['nc'])}")
    return distinct_names(names, path)


def _read_darknet(path: Path) -> Description | None:
    entries = {}
    for line in read_text(path).split("\n"):
        key, separator, value = line.partition("=")
        if separator and not line.lstrip().startswith(("#", ";")):
            entries[key.strip().lower()] = value.strip()
    # The .data files of this project have more keys.
    if not entries.keys() & {"train", "names"} or entries.keys() - _DARKNET_KEYS - set(SET_WORDS):
        return None
    folders = (path.parent, path.parent.parent)  # paths are relative to where darknet runs, often the parent folder
    names = None
    if text := entries.get("names"):
        file = find_moved(text, folders)
        if file is None:
            raise InputError(f"{path}: names: expected a file with class names, found nothing at {text}")
        names = read_name_file(file)
    sets = {SET_WORDS[key]: [value] for key, value in entries.items() if key in SET_WORDS and value}
    return Description(path, sets, names, folders)


def find_moved(text: str, folders: Sequence[Path]) -> Path | None:
    """Find a file or folder whose path was written on another computer or for another working directory.

    A path that begins with `../` is searched inside the folders first: Roboflow writes `../train/images` for
    `train/images`. If the path does not exist, its longest end that does is used: `data/obj_train_data/a.jpg` becomes
    `obj_train_data/a.jpg`.
    """
    if len(text) > MAX_PATH:
        return None
    literal = find_path(text, folders)
    parts = [part for part in PurePosixPath(text.replace("\\", "/")).parts if part not in ("..", ".", "/")]
    ends = [Path(folder, *parts[start:]) for start in range(len(parts)) for folder in folders]
    candidates = [*ends[: len(folders)], literal, *ends] if text.startswith("..") else [literal, *ends]
    return next((candidate for candidate in candidates if os.path.exists(candidate)), None)


def find_name_files(folder: Path) -> list[Path]:
    """Return the files under a folder that have class names, those nearest to the folder first."""
    files = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        files += [Path(parent, name) for name in sorted(names) if _NAME_FILES.fullmatch(name.lower())]
        files += [Path(parent, name) for name in names if name.lower() == _NOTES]
    # Label Studio writes the same names to classes.txt and notes.json.
    listed = [file for file in files if file.name.lower() != _NOTES] or files
    return sorted(listed, key=lambda file: len(file.parts))


def read_name_file(path: Path) -> tuple[str, ...]:
    """Read class names: one per line, or the categories of Label Studio's notes.json.

    Raises:
        InputError: no names.
    """
    if path.name.lower() == _NOTES:
        try:
            categories = sorted(parse_json(read_text(path), path)["categories"], key=lambda category: category["id"])
            names = tuple(str(category["name"]) for category in categories)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{path}: expected categories with id and name, as Label Studio writes them") from error
    else:
        names = read_names(path, warn_repeated=False)  # `distinct_names` warns
    return distinct_names(names, path)


def find_names(folder: Path) -> tuple[tuple[str, ...], Path] | None:
    """Return the class names that the files under a folder list, and the file; None if there is none.

    Raises:
        InputError: files that list different names.
    """
    found = [(read_name_file(path), path) for path in find_name_files(folder)]
    for names, path in found[1:]:
        if names != found[0][0]:
            raise InputError(
                f"{path}: expected the class names of {found[0][1]}, {list_names(found[0][0])}, got {list_names(names)}"
            )
    return found[0] if found else None


def _shorten(value: object) -> str:
    return shorten(reprlib.repr(value), 60)  # json.dumps would expand YAML's aliases, of which a file can have billions
