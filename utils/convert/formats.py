"""Recognize the format of a source, and find its sets of images: train, val, test.

Each format is a module of this package with its name from `options.FORMATS`. It has:

    TITLE        what a source is called in messages, for example "a COCO JSON file"
    find_sets    (source, ImportOptions) → {"train", "val" or "test": a set}; {} if the source has another format
    read         (set, ImportOptions, Problems) → Annotations
    recognize    (path) → whether this can be the value of --val; not in `yolo`, whose --val may be any path

A set is a `SetSource`, or another tuple with the fields `source` and `image_folders` that its format defines.
"""

import os
from collections import Counter
from pathlib import Path
from types import ModuleType

from utils.convert import coco, voc, yolo
from utils.convert.options import FORMAT_OF_OPTION, FORMATS, SETS, ImportOptions, SetSource
from utils.errors import InputError

Sets = dict[str, SetSource | yolo.ImageSet]

_MODULES = dict(zip(FORMATS, (coco, voc, yolo), strict=True))


def find_sets(source: Path, options: ImportOptions) -> tuple[ModuleType, Sets]:
    """Return the module of a source's format, and the sets in the source.

    Args:
        source: as options.source, or where it was extracted to.

    Raises:
        InputError: a source in no format or in several, sources in different formats, or an option of another format.
    """
    source = _enter(source)
    formats = [options.format] if options.format else FORMATS
    found, errors = {}, []
    for name in formats:
        try:
            if sets := _MODULES[name].find_sets(source, options):
                found[name] = sets
        except InputError as error:  # another format may fit
            errors.append(error)
    if errors and not found:
        raise errors[0]
    if not found and options.format in ("coco", "voc"):
        found = {options.format: options.sets_of(source)}
    if len(found) != 1:
        *titles, last = (module.TITLE for module in _MODULES.values())
        got = f"several: {', '.join(found)}; choose with --format" if found else _describe(source)
        raise InputError(f"{source}: expected {', '.join(titles)} or {last}, got {got}")
    ((name, sets),) = found.items()
    sets = {key: sets[key] for key in SETS if key in sets}
    reader = _MODULES[name]
    if options.val and name != "yolo" and not reader.recognize(options.val):
        raise InputError(f"--val: expected {reader.TITLE} like SOURCE, got {options.val}")
    for option, only_format in FORMAT_OF_OPTION.items():
        if name != only_format and getattr(options, option) != getattr(ImportOptions, option):
            flag = option.replace("_", "-")
            raise InputError(f"--{flag}: does not apply, because {options.source} is {reader.TITLE}")
    return reader, sets


def _enter(source: Path) -> Path:
    """Return the folder with the data. Archives and VOCdevkit often contain nothing but another folder."""
    while source.is_dir():
        entries = [entry for entry in source.iterdir() if entry.name[0] != "." and entry.name != "__MACOSX"]
        if len(entries) != 1 or not entries[0].is_dir() or entries[0].name in ("Annotations", "images"):
            break
        (source,) = entries
    return source


def _describe(source: Path) -> str:
    if not os.path.exists(source):
        return "nothing at this path"
    if source.suffix == ".data":
        return "none of them; a .data file of this project needs no import: train.py --data takes it"
    if not source.is_dir():
        return "none of them"
    # The usual case is a folder of images whose annotations are elsewhere.
    suffixes = Counter(path.suffix.lower() or "without suffix" for path in source.rglob("*") if path.is_file())
    files = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(5))
    return f"a folder with these files: {files}" if files else "a folder without files"
