"""Read images with YOLO (darknet) labels, in the folders that annotation tools and Ultralytics write.

The sets are, in this order: those of a data.yaml or obj.data file; the lists train.txt, val.txt, …; the folders that
are named after a set; or else all images are one set. A label file is where `utils.dataset.labels` looks for it, or is
the only one in the source that has the image's name.
"""

import itertools
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from utils.convert.annotations import AnnotatedImage, Annotations, Box, Problems
from utils.convert.options import ImportOptions, set_of
from utils.convert.yolo_files import (
    YAML_SUFFIXES,
    Description,
    find_moved,
    find_name_files,
    find_names,
    read_description,
    read_name_file,
)
from utils.dataset.images import SUFFIX_TEXT, is_image_name, read_header
from utils.dataset.labels import find_labels, parse_labels
from utils.dataset.lists import list_images
from utils.errors import InputError, warn
from utils.files import read_text
from utils.text import list_names, shorten

TITLE = "images with YOLO labels"


class ImageSet(NamedTuple):
    """One set of images with YOLO labels."""

    source: Path  # the folder or the list of the images
    images: list[Path]  # those of a list may not exist
    root: Path  # folder in which label files are searched
    class_names: tuple[str, ...]

    @property
    def image_folders(self) -> list[Path]:
        """The folder that has all images."""
        return [Path(os.path.commonpath({path.parent for path in self.images}))]


def find_sets(source: Path, options: ImportOptions) -> dict[str, ImageSet]:
    """Find the sets of a source; {} if it is not a folder of images with YOLO labels, a data.yaml or an obj.data file.

    Raises:
        InputError: a broken data.yaml or obj.data file, no class names, or no training set.
    """
    root = source if source.is_dir() else source.parent
    description = _find_description(source)
    if description is None and not (source.is_dir() and _has_images(options.images or source)):
        if source.is_dir() and not options.images and find_name_files(source):
            raise InputError(f"{source}: expected images ({SUFFIX_TEXT}), found only class names; use --images FOLDER")
        return {}
    paths = _described_paths(description) if description else {}
    if not paths:  # no description, or its paths do not exist on this computer
        paths = _folder_paths(root, options.images)
    if options.val:
        paths = {"train": list(itertools.chain(*paths.values())), "val": [options.val]}
    folders = [*(description.folders if description else ()), *([options.images] if options.images else ())]
    images = {key: _list_all(found, folders) for key, found in paths.items()}
    if not description and not _has_labels(list(itertools.chain(*images.values())), root):
        return {}
    if "train" not in images:
        raise InputError(f"{source}: expected a training set, found only {', '.join(images) or 'names'}")
    names = _class_names(source, root, description, options, images)
    places = {key: found[0] if len(found) == 1 else root for key, found in paths.items()}
    roots = {key: options.val if key == "val" and options.val else root for key in images}
    return {key: ImageSet(places[key], found, roots[key], names) for key, found in images.items()}


def _find_description(source: Path) -> Description | None:
    """Return the content of a data.yaml or obj.data file: SOURCE itself, or the one in this folder that has sets."""
    if source.is_file():
        return read_description(source)
    files = sorted(path for path in source.glob("*") if path.suffix.lower() in (*YAML_SUFFIXES, ".data"))
    found = [description for path in files if (description := read_description(path))]
    with_sets = [description for description in found if description.sets]
    if len(with_sets) > 1:
        names = list_names([description.path.name for description in with_sets])
        raise InputError(f"{source}: expected one file that describes the data set, found {names}; name one as SOURCE")
    return (with_sets or found or [None])[0]


def _described_paths(description: Description) -> dict[str, list[Path]]:
    """Return {set: its folders and lists}, without those that do not exist and a val set that is the training set."""
    paths = {}
    for key, texts in description.sets.items():
        for text in texts:
            if path := find_moved(text, description.folders):
                paths.setdefault(key, []).append(path)
            else:
                warn(f"{description.path}: {key}: expected a folder or a list of images, found nothing at {text}")
    for key in ("val", "test"):
        if key in paths and paths[key] == paths.get("train"):
            warn(f"{description.path}: {key}: expected other images than train, got the same; this set is not used")
            del paths[key]
    return paths


def _folder_paths(root: Path, images: Path | None) -> dict[str, list[Path]]:
    """Return {set: its folders or lists} of a folder without description; `images`: their folder if it is elsewhere."""
    if images:
        return {"train": [images]}
    lists = {set_of(path.stem): [path] for path in sorted(root.glob("*.txt")) if set_of(path.stem) and _is_list(path)}
    if "train" in lists:
        return lists
    sets, others = defaultdict(list), 0
    for parent, folders, files in os.walk(root):
        others += sum(map(is_image_name, files))
        for name in [name for name in sorted(folders) if set_of(name)]:
            folders.remove(name)  # train/images is not searched again
            path = Path(parent, name)
            if _has_images(path):
                sets[set_of(name)].append(path)
        folders[:] = [name for name in folders if name[0] != "."]
    if "train" not in sets:
        return {"train": [root]}
    if others:
        warn(f"{root}: {others} images are outside the folders of the sets ({', '.join(sets)}) and are not imported")
    return sets


def _has_images(folder: Path) -> bool:
    return any(is_image_name(name) for _, _, names in os.walk(folder) for name in names)


def _is_list(path: Path) -> bool:
    """Whether all lines of a text file are names of images."""
    lines = [line for line in read_text(path).split("\n") if line.strip()]
    return bool(lines) and all(is_image_name(line.strip()) for line in lines)


def _list_all(paths: Sequence[Path], folders: Sequence[Path]) -> list[Path]:
    """List the images of folders and lists, each once; images of a list may have moved into one of `folders`."""
    images = {}
    for path in paths:
        for image in list_images(path):
            if path.is_file() and not os.path.exists(image):
                image = find_moved(os.path.relpath(image, path.parent), [path.parent, *folders]) or image
            images[os.path.normpath(image)] = None
    inside = all(not os.path.isabs(image) and not image.startswith("..") for image in images)
    # All are relative or all are absolute, because os.path.commonpath does not accept both.
    return [Path(image if inside else os.path.abspath(image)) for image in images]


def _has_labels(images: Sequence[Path], root: Path) -> bool:
    return any(find_labels(images).files) or any(_find_elsewhere(images, root))


def _find_elsewhere(images: Sequence[Path], root: Path) -> list[Path | None]:
    """For each image the only label file under `root` that has its name, or None."""
    by_name = defaultdict(list)
    for parent, _, names in os.walk(root):
        for name in names:
            if name.lower().endswith(".txt"):
                by_name[name[:-4]].append(Path(parent, name))
    found = [by_name[image.stem] for image in images]
    return [paths[0] if len(paths) == 1 else None for paths in found]


def _class_names(
    source: Path,
    root: Path,
    description: Description | None,
    options: ImportOptions,
    images: dict[str, list[Path]],
) -> tuple[str, ...]:
    """Return the class names in the order of the ids; --names lists them if no file of the source does."""
    if description and description.class_names:
        return description.class_names
    if found := find_names(root):
        print(f"class names: {found[1]}")
        return found[0]
    if options.names:
        return read_name_file(options.names)
    ids = set()
    for label_file in filter(None, find_labels(itertools.chain(*images.values())).files):
        ids.update(parse_labels(read_text(label_file)).labels[:, 0].astype(int).tolist())
    raise InputError(
        f"{source}: expected class names (data.yaml, classes.txt, obj.names), found none; the labels have the class "
        f"ids {shorten(', '.join(map(str, sorted(ids))), 60)}: write the names to a file, one per line, the first for "
        "class 0, and save it as classes.txt there, or give tools/import_dataset.py --names FILE"
    )


def read(part: ImageSet, options: ImportOptions, problems: Problems) -> Annotations:
    """Read the label files of a set; malformed lines and labels without image are added to `problems`."""
    label_files = find_labels(part.images).files
    if None in label_files:
        elsewhere = _find_elsewhere(part.images, part.root)
        label_files = [found or other for found, other in zip(label_files, elsewhere, strict=True)]
    missing = [image.name for image, label_file in zip(part.images, label_files, strict=True) if label_file is None]
    if missing:
        warn(
            f"{part.source}: {len(missing)} of {len(part.images)} images have no label file and count as images "
            f"without objects: {list_names(missing)}"
        )
    (folder,) = part.image_folders
    annotated = []
    for image, label_file in tqdm(zip(part.images, label_files, strict=True), "labels", len(part.images), disable=None):
        try:
            text = read_text(label_file) if label_file else ""
        except InputError as error:
            problems.dropped.append(str(error))
            continue
        parsed = parse_labels(text, len(part.class_names))
        problems.dropped += [f"{label_file}:{line}: {message}" for line, message in parsed.problems]
        if clipped := parsed.changes["clipped"]:
            problems.changed.append(f"{label_file}: boxes clipped to the image: {clipped}")
        annotated.append(_annotate(image, folder, parsed.labels.astype(float).tolist(), part.class_names))
    if part.source.is_dir():
        problems.dropped += [f"{path}: expected an image with this name, found none" for path in _orphans(label_files)]
    return Annotations(annotated, part.class_names)


def _annotate(image: Path, folder: Path, rows: list[list[float]], class_names: tuple[str, ...]) -> AnnotatedImage:
    """Convert rows of (class id, cx, cy, w, h) to boxes in pixels."""
    try:
        size = width, height = read_header(image).size
    except InputError:  # reported by `label_images`
        size, rows = None, []
    where = str(image)
    boxes = []
    for class_id, cx, cy, w, h in rows:
        corners = ((cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height)
        boxes.append(Box(class_names[int(class_id)], corners, where))
    return AnnotatedImage((os.path.relpath(image, folder),), size, boxes, where)


def _orphans(label_files: Sequence[str | Path | None]) -> list[Path]:
    """Return the label files in the folders of these label files that have no image."""
    used = {os.fspath(path) for path in label_files if path}
    folders = sorted({os.path.dirname(path) for path in used})
    others = [path for folder in folders for path in sorted(Path(folder or ".").glob("*.txt")) if str(path) not in used]
    found = []
    for path in others:
        try:
            parsed = parse_labels(read_text(path))
        except InputError:
            continue
        if len(parsed.labels) and not parsed.problems:  # not class names, a list or a text
            found.append(path)
    return found
