"""Recognize the format of a source, and find its sets of images: train, val, test.

A format is a module of this package, named in `options.FORMATS`, with

    TITLE        description of a source in messages, for example "a COCO JSON file"
    OPTIONS      the fields of ImportOptions that only some formats have
    read         (set, ImportOptions, Problems) → Annotations, for each set that this module finds

A set is a `SetSource`, or another tuple with `source` and `image_folders` that only its format reads.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from utils.convert import coco, voc, yolo
from utils.convert.options import FORMATS, ImportOptions, SetSource
from utils.convert.yolo_files import set_of
from utils.errors import InputError
from utils.files import read_bytes
from utils.text import list_names

Sets = dict[str, SetSource | yolo.ImageSet]  # {"train", "val" or "test": a set}

SETS = ("train", "val", "test")

_COCO_KEYS = (b'"images"', b'"annotations"', b'"categories"')
_VOC_LISTS = Path("ImageSets", "Main")


def find_sets(source: Path, options: ImportOptions) -> tuple[ModuleType, Sets]:
    """Return the module of a source's format, and the sets in the source.

    Args:
        source: as options.source, or where it was extracted to.
        options: name sets of their own, or the format.

    Raises:
        InputError: a source in no format or in several, sources in different formats, or an option of another format.
    """
    modules = dict(zip(FORMATS, (coco, voc, yolo), strict=True))
    source = _enter(source)
    formats = [options.format] if options.format else FORMATS
    found, errors = {}, []
    for name in formats:
        try:
            if sets := _FINDERS[name](source, options):
                found[name] = sets
        except InputError as error:  # another format may fit
            errors.append(error)
    if errors and not found:
        raise errors[0]
    if not found and options.format in ("coco", "voc"):
        found = {options.format: options.sets_of(source)}
    if len(found) != 1:
        *titles, last = (module.TITLE for module in modules.values())
        got = f"several: {', '.join(found)}; choose with --format" if found else _describe(source)
        raise InputError(f"{source}: expected {', '.join(titles)} or {last}, got {got}")
    ((name, sets),) = found.items()
    sets = {key: sets[key] for key in SETS if key in sets}
    reader = modules[name]
    if options.val and name != "yolo" and not reader.recognize(options.val):
        raise InputError(f"--val: expected {reader.TITLE} like SOURCE, got {options.val}")
    for option in sorted(
        {option for module in modules.values() for option in module.OPTIONS}.difference(reader.OPTIONS)
    ):
        if getattr(options, option) != getattr(ImportOptions, option):
            flag = option.replace("_", "-")
            raise InputError(f"--{flag}: does not apply, because {options.source} is {reader.TITLE}")
    return reader, sets


def _enter(source: Path) -> Path:
    """Return the folder that has the data: archives and VOCdevkit often have one folder inside another."""
    while source.is_dir():
        entries = [entry for entry in source.iterdir() if entry.name[0] != "." and entry.name != "__MACOSX"]
        if len(entries) != 1 or not entries[0].is_dir() or entries[0].name in ("Annotations", "images"):
            break
        (source,) = entries
    return source


def _find_coco(source: Path, options: ImportOptions) -> Sets:
    """Find the sets of a COCO JSON file, or of a folder with one such file per set."""
    if coco.recognize(source):
        return options.sets_of(source)
    if not source.is_dir():
        return {}
    files = [path for path in sorted(source.rglob("*.json")) if _is_coco(path)]
    if len(files) == 1:
        return options.sets_of(files[0])
    # Roboflow: train/_annotations.coco.json; COCO: annotations/instances_train2017.json and other kinds of annotations.
    files = [path for path in files if path.stem.startswith("instances")] or files
    sets = defaultdict(list)
    for path in files:
        sets[set_of(path.stem) or set_of(path.parent.name)].append(path)
    if files and ("train" not in sets or any(len(found) > 1 for found in sets.values())):
        names = list_names([str(path.relative_to(source)) for path in files])
        raise InputError(f"{source}: expected one COCO JSON file per set, found {names}; name one as SOURCE")
    return {key: SetSource(path, options.images or _folder_of_set(path, key), None) for key, (path,) in sets.items()}


def _folder_of_set(path: Path, key: str) -> Path | None:
    """Return the only folder near a JSON file that is named after its set, as train2017/ is next to annotations/."""
    if set_of(path.parent.name):
        return None  # the file itself is in such a folder
    parents = (path.parent, path.parent.parent, path.parent.parent / "images")
    folders = [folder for parent in parents if parent.is_dir() for folder in parent.iterdir() if folder.is_dir()]
    named = [folder for folder in folders if set_of(folder.name) == key]
    return named[0] if len(named) == 1 else None


def _is_coco(path: Path) -> bool:
    content = read_bytes(path)
    return all(key in content for key in _COCO_KEYS)


def _find_voc(source: Path, options: ImportOptions) -> Sets:
    """Find the sets of a folder of VOC XML files: those of its sub-folders or of ImageSets/Main, or a single one."""
    if not voc.recognize(source):
        return {}
    if options.images is None and len(folders := _annotation_folders(source)) == 1:
        (source,) = folders  # a repository with more than the data set
    if options.val or options.train_list or options.images:
        return options.sets_of(source)
    lists = {set_of(path.stem): path for path in (source / _VOC_LISTS).glob("*.txt") if path.stem in SETS}
    if "train" in lists:
        return {key: SetSource(source, None, path) for key, path in sorted(lists.items())}
    folders = [path for path in sorted(source.iterdir()) if set_of(path.name) and voc.recognize(path)]
    sets = {set_of(path.name): SetSource(path, None, None) for path in folders}
    own = any(path.suffix == ".xml" for path in source.iterdir()) or (source / "Annotations").is_dir()
    return sets if "train" in sets and len(sets) == len(folders) and not own else options.sets_of(source)


def _annotation_folders(source: Path) -> list[Path]:
    """Return the folders under `source` that have Annotations/ with XML files."""
    return [path.parent for path in source.rglob("Annotations") if path.is_dir() and any(path.glob("*.xml"))]


_FINDERS: dict[str, Callable[[Path, ImportOptions], Sets]] = {
    "coco": _find_coco,
    "voc": _find_voc,
    "yolo": yolo.find_sets,
}


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
