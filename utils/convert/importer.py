"""Import annotations of another format as a darknet data set.

A format is a module of this package, named in `options.FORMATS`, with

    TITLE        description of a source in messages, for example "a COCO JSON file"
    OPTIONS      the fields of ImportOptions that only some formats have
    recognize    (source) → whether a file or folder has this format
    read         (SetSource, ImportOptions, Problems) → Annotations
"""

import importlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from utils.convert.annotations import Problems, choose_classes
from utils.convert.darknet import write_dataset
from utils.convert.locate import LabeledImage, find_images, label_images, split_images
from utils.convert.options import FORMATS, ImportOptions
from utils.convert.output_names import separate_names
from utils.errors import InputError, RunError, warn
from utils.files import write_text
from utils.text import align_columns

SHOWN = 20  # problems that are printed; problems.txt has all


def import_dataset(options: ImportOptions) -> int:
    """Import a data set and print what was done.

    Returns:
        The exit status: 1 if broken entries were dropped, else 0.

    Raises:
        InputError: the annotations or the images cannot be used, or an option does not fit the format.
        RunError: no box is left.
    """
    reader = choose_format(options)
    problems = Problems()
    annotations = {key: reader.read(part, options, problems) for key, part in options.sets.items()}
    class_names = choose_classes(annotations, options.names)
    if not class_names:
        raise InputError(f"{options.source}: expected annotations with objects, found none{problems.reasons}")
    sets = {}
    for key, part in options.sets.items():
        folder, paths = find_images(annotations[key].images, part.image_folders)
        print(f"{key}: {part.source} is {reader.TITLE}; its images are in {folder}")
        sets[key] = label_images(annotations[key].images, paths, folder, class_names, problems)
    for note in dict.fromkeys(problems.notes):
        print(f"note: {note}")
    if any(sets.values()) and not any(image.labels for images in sets.values() for image in images):
        raise RunError(f"{options.source}: no box is left{problems.reasons}")
    if options.split is not None:
        print(f"split at random: {options.split:g} for train, seed {options.seed}")
        sets["train"], sets["val"] = split_images(sets["train"], options.split, options.seed)
    if not sets["train"]:
        raise InputError(f"{options.source}: no image is left to train on{problems.reasons}")
    sets = separate_names(sets, options.place, problems)
    print(_count_table(sets, class_names))
    path = write_dataset(sets, class_names, options)
    _report_problems(problems, options.output / "problems.txt")
    images = {"link": "links to the images", "copy": "copies of the images", "in-place": "labels next to the images"}
    print(f"wrote {path}, names, lists, labels ({images[options.place]})")
    print(f"next: python3 tools/check_dataset.py --data {path}")
    return 1 if problems.dropped else 0


def choose_format(options: ImportOptions) -> ModuleType:
    """Return the module of the format that the options name or that the sources have.

    Raises:
        InputError: a source in no known format, sources in different formats, or an option of another format.
    """
    formats = [importlib.import_module(f"utils.convert.{name}") for name in FORMATS]
    if options.format:
        reader = formats[FORMATS.index(options.format)]
    else:
        reader, *others = (_recognize(part.source, formats) for part in options.sets.values())
        if others and others[0] is not reader:
            raise InputError(f"--val: expected {reader.TITLE} like SOURCE, got {others[0].TITLE}")
    for option in sorted({option for module in formats for option in module.OPTIONS}.difference(reader.OPTIONS)):
        if getattr(options, option) != getattr(ImportOptions, option):
            name = option.replace("_", "-")
            raise InputError(f"--{name}: does not apply, because {options.source} is {reader.TITLE}")
    return reader


def _recognize(source: Path, formats: Sequence[ModuleType]) -> ModuleType:
    for module in formats:
        if module.recognize(source):
            return module
    expected = " or ".join(module.TITLE for module in formats)
    got = "neither" if source.exists() else "nothing at this path"
    raise InputError(f"{source}: expected {expected}, got {got}")


def _count_table(sets: dict[str, list[LabeledImage]], class_names: Sequence[str]) -> str:
    boxes = [Counter(row[0] for image in images for row in image.labels) for images in sets.values()]
    rows = [
        ["", *sets],
        ["images", *(len(images) for images in sets.values())],
        ["images without boxes", *(sum(not image.labels for image in images) for images in sets.values())],
        ["boxes", *(counter.total() for counter in boxes)],
        *(
            [f"{class_id} {name}", *(counter[class_id] for counter in boxes)]
            for class_id, name in enumerate(class_names)
        ),
    ]
    return align_columns([list(map(str, row)) for row in rows])


def _report_problems(problems: Problems, path: Path) -> None:
    for kind, count in problems.skipped.items():
        print(f"skipped: {count} {kind}")
    lines = [*(f"dropped: {line}" for line in problems.dropped), *(f"changed: {line}" for line in problems.changed)]
    if lines:
        for line in lines[:SHOWN]:
            warn(line)
        # Names of files need not be valid UTF-8.
        write_text(path, "\n".join(lines).encode("utf-8", "backslashreplace").decode() + "\n")
        print(f"dropped: {len(problems.dropped)} entries, changed: {len(problems.changed)}; {path} lists them")
