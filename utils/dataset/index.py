"""The index of a data set: its images, their sizes and labels, read once and then cached."""

import contextlib
import filecmp
import functools
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from utils.config import Config
from utils.dataset.images import read_header
from utils.dataset.index_cache import FileKeys, absolute_paths, cache_path, file_keys, read_cache, write_cache
from utils.dataset.labels import CHANGES, ParsedLabels, find_labels, label_candidates, parse_labels
from utils.dataset.lists import list_entries, list_images, list_path
from utils.errors import InputError, warn
from utils.files import read_text

MAX_COMPARED = 1000  # pairs of label files of one image
MIN_IMAGES_PER_PROCESS = 500  # fewer are read faster than another process starts


@dataclass(frozen=True)
class DatasetIndex:
    """What is known about a data set without decoding its images. All fields are in the order of the list."""

    source: Path  # list file, folder, glob or image
    images: list[str]  # paths; creating 100,000 Path objects takes half a second
    label_files: list[str | None]  # None: the image has none
    labels: list[np.ndarray]  # per image [n, 5] float32: (class, cx, cy, w, h), boxes as fractions of the image
    sizes: np.ndarray  # [N, 2] int64, (width, height) in pixels; 0, 0 for files that are not images
    changes: dict[str, int]  # label lines that were changed, for each key of utils.dataset.labels.CHANGES
    image_key: str = field(repr=False)  # digest of paths, sizes and times of the images

    def __len__(self) -> int:
        return len(self.images)

    @property
    def missing_labels(self) -> int:
        """Count of the images without label file."""
        return self.label_files.count(None)


def open_list(config: Config, key: str) -> DatasetIndex:
    """Load the index of the list `key` ("train" or "val") of a .data file.

    Raises:
        InputError: the .data file has no such list, or as `load_index`.
    """
    return load_index(list_path(config, key), config.classes)


def load_index(source: str | Path, classes: int | None = None, cache: bool = True) -> DatasetIndex:
    """Load the index of a data set, from its cache if no file has changed since the cache was written.

    Warns about missing and shared label files, and label lines that were changed. Images without label file count as
    images without objects.

    Args:
        source: list file, folder, glob or image, see `list_images`.
        classes: number of classes; None accepts every class from 0.

    Raises:
        InputError: no images, a missing image (with the line of the list), or a malformed label line.
    """
    files = _find_files(source)
    path = cache_path(source) if cache else None
    cached = path and read_cache(path, files.keys, len(files.images))
    # The key does not contain the number of classes, so tools that do not know it share the cache.
    if cached and _max_class(cached["labels"]) < (classes or np.inf):
        index = DatasetIndex(files.source, files.images, files.label_files, image_key=files.keys.images, **cached)
    else:
        _check_images(files.source, files.images)
        index, problems = _scan(files, classes)
        if problems:
            more = f" (and {len(problems) - 1} more such lines)" if len(problems) > 1 else ""
            raise InputError(f"{problems[0]}{more}")
        if path:
            write_cache(path, index, files.keys.all)
    warn_about_labels(index)
    return index


def scan_dataset(source: str | Path, classes: int | None = None) -> tuple[DatasetIndex, list[InputError]]:
    """Read the sizes and labels of all images, without a cache, and collect errors instead of stopping.

    Args:
        source: list file, folder, glob or image, see `list_images`.
        classes: number of classes; None accepts every class from 0.

    Returns:
        index: with the valid label lines only.
        problems: one per malformed label line or unreadable label file, in the order of the list.

    Raises:
        InputError: no images.
    """
    return _scan(_find_files(source), classes)


class _Files(NamedTuple):
    """The files of a data set."""

    source: Path
    images: list[str]
    label_files: list[str | None]
    keys: FileKeys


def _find_files(source: str | Path) -> _Files:
    images = list_images(source)
    label_files, hidden = find_labels(images)
    differing = sum(not filecmp.cmp(*pair, shallow=False) for pair in hidden[:MAX_COMPARED])
    if differing:
        warn(
            f"{source}: {differing} images have two label files with different content; "
            f"{hidden[0][0]} is used, not {hidden[0][1]}"
        )
    return _Files(Path(source), images, label_files, file_keys(images, label_files))


def _scan(files: _Files, classes: int | None) -> tuple[DatasetIndex, list[InputError]]:
    read = functools.partial(_read_entry, classes=classes)
    pairs = list(zip(files.images, files.label_files, strict=True))
    entries = _map_in_processes(read, pairs, f"reading {files.source.name}")
    index = DatasetIndex(
        source=files.source,
        images=files.images,
        label_files=files.label_files,
        labels=[parsed.labels for _, parsed, _ in entries],
        sizes=np.array([size for size, _, _ in entries], np.int64).reshape(-1, 2),
        changes={kind: sum(parsed.changes[kind] for _, parsed, _ in entries) for kind in CHANGES},
        image_key=files.keys.images,
    )
    return index, [problem for _, _, problems in entries for problem in problems]


def _map_in_processes(function: Callable, items: list, title: str) -> list:
    """Map a function over items with a progress bar; many items are divided among forked processes.

    Not threads: reading headers and label lines holds the GIL.
    """
    processes = 1
    if sys.platform == "linux":  # forking is unsafe or missing on other systems
        processes = min(len(os.sched_getaffinity(0)), len(items) // MIN_IMAGES_PER_PROCESS)
    with contextlib.ExitStack() as stack:
        if processes > 1:
            # The parent handles Ctrl-C and stops the others.
            ignore = (signal.SIGINT, signal.SIG_IGN)
            pool = stack.enter_context(get_context("fork").Pool(processes, signal.signal, ignore))
            results = pool.imap(function, items, chunksize=100)
        else:
            results = map(function, items)
        return list(tqdm(results, title, len(items), unit="image", disable=None))


def _read_entry(
    files: tuple[str, str | None], classes: int | None
) -> tuple[tuple[int, int], ParsedLabels, list[InputError]]:
    """Size of an image, its labels, and the errors in them; `files` are the image and its label file."""
    image, label_file = files
    try:
        size = read_header(image).size
    except InputError:
        size = (0, 0)
    try:
        parsed = parse_labels(read_text(label_file) if label_file else "", classes)
    except InputError as error:
        return size, parse_labels(""), [error]
    return size, parsed, [InputError(f"{label_file}:{line}: {message}") for line, message in parsed.problems]


def _check_images(source: Path, images: list[str]) -> None:
    missing = [position for position, name in enumerate(images) if not os.path.exists(name)]
    if missing:
        first = missing[0]
        # In a folder only a broken link is missing.
        where = f"{source}:{list_entries(source)[first][0]}" if source.is_file() else source
        more = f" ({len(missing)} of {len(images)} images are missing)" if len(missing) > 1 else ""
        raise InputError(f"{where}: expected an image, found nothing at {images[first]}{more}")


def _max_class(labels: list[np.ndarray]) -> float:
    return np.concatenate([np.empty((0, 5)), *labels])[:, 0].max(initial=-1)


def shared_labels(index: DatasetIndex) -> list[str]:
    """Describe the label files that belong to several images, one text per label file."""
    pairs = [pair for pair in zip(index.label_files, index.images, strict=True) if pair[0] is not None]
    label_files = absolute_paths([label_file for label_file, _ in pairs])
    if len(set(label_files)) == len(label_files):
        return []
    images = defaultdict(dict)  # label file → its images, each once
    for label_file, image in zip(label_files, absolute_paths([image for _, image in pairs]), strict=True):
        images[label_file][image] = None
    return [f"{label} has the labels of {' and '.join(names)}" for label, names in images.items() if len(names) > 1]


def warn_about_labels(index: DatasetIndex) -> None:
    """Warn about missing and shared label files, and label lines that were changed."""
    shared = shared_labels(index)
    if shared:
        more = f" (and {len(shared) - 1} more such label files)" if len(shared) > 1 else ""
        warn(f"{index.source}: {shared[0]}{more}")
    if index.missing_labels:
        first = index.images[index.label_files.index(None)]
        places = " or ".join(label_candidates(first))
        warn(
            f"{index.source}: {index.missing_labels} of {len(index)} images have no label file and count as images "
            f"without objects; the first missing label file is {places}"
        )
    for note in label_notes(index):
        warn(f"{index.source}: {note}")


def label_notes(index: DatasetIndex) -> list[str]:
    """Describe how label lines were changed, one text per kind of change."""
    return [f"{count} label lines are {CHANGES[kind]}" for kind, count in index.changes.items() if count]
