"""The index of a data set: its images, their sizes and labels, read once and cached beside the list."""

import contextlib
import functools
import hashlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

from utils.dataset.images import image_names, image_size, is_image_name, list_entries
from utils.dataset.labels import label_error, label_folders, label_path, scan_text
from utils.errors import InputError, warn
from utils.files import atomic_path, read_text

CACHE_VERSION = 1  # to be raised when what the index holds, or how a label line is read, changes
ITEMS_A_PROCESS = 500  # fewer are read before another process has started


class PathList(Sequence):
    """Paths kept as text, made when asked for: many of them as Path objects cost much time and memory.

    Args:
        names: paths or text.
    """

    def __init__(self, names):
        self.names = [os.fspath(name) for name in names]

    def __len__(self):
        return len(self.names)

    def __getitem__(self, position):
        return PathList(self.names[position]) if isinstance(position, slice) else Path(self.names[position])

    def __iter__(self):
        return map(Path, self.names)

    def __repr__(self):
        return f"PathList({self.names!r})"


@dataclass(frozen=True)
class DatasetIndex:
    """All that is known of a data set without unpacking its images; lists and arrays are in the list's order."""

    source: Path  # list file, folder or glob
    images: PathList
    labels: list[np.ndarray]  # [n, 5] float32 each: class, cx, cy, w, h as fractions of the image
    sizes: np.ndarray  # [N, 2] int64, (width, height) in pixels as `read_image` gives them; 0, 0 if no image is there
    missing_labels: int  # images without a label file
    polygons: int  # label lines that were polygons and are now boxes
    scores: int  # label lines whose score was dropped
    image_key: str = field(repr=False)  # of the images' paths, sizes and times: equal for equal pixels

    def __len__(self):
        return len(self.images)


class FileStates:
    """Where the label file of each image is, and size and time of both: what tells whether a cache is current.

    `labels` are paths as text, None where there is no file; `key` is a digest of all, `image_key` of the images'.

    Args:
        images: paths or text.
    """

    def __init__(self, images):
        names = [os.fspath(image) for image in images]
        self.labels = find_labels(names)
        digest = hashlib.sha256("\0".join(_absolute(names)).encode("utf-8", "surrogateescape"))
        digest.update(_file_states(names).tobytes())
        self.image_key = digest.hexdigest()
        digest.update(_file_states(self.labels).tobytes())
        self.key = digest.hexdigest()


def find_labels(images):
    """Label file of each image (paths as text), None where there is none; the places are those of `label_path`."""
    listed = {}  # folder of images: the folders where their labels can be, each with the names in it
    labels = []
    for image in images:
        folder, separator, name = image.rpartition(os.sep)
        if folder not in listed:
            listed[folder] = [(place + separator, _names_in(place)) for place in label_folders(folder)]
        name = f"{name.rpartition('.')[0]}.txt"
        for place, names in listed[folder]:
            if name in names:
                labels.append(place + name)
                break
        else:
            # Not there, or spelt otherwise on a file system that ignores case.
            label = label_path(image)
            labels.append(os.fspath(label) if label.exists() else None)
    return labels


def load_index(source, classes=None, cache=True):
    """Index of a data set, from the cache beside `source` if nothing has changed since it was written.

    Says in one warning line each how many label files are missing (their images count as images without objects),
    and how many label lines were polygons or had a score.

    Args:
        source: list file, folder, glob or image, as `list_images` takes it.
        classes: number of classes, or None if any class from 0 up will do.
        cache: whether to read and write the cache; where it cannot be written, nothing is said.
    Raises:
        InputError: no images; an image that does not exist, with its line of the list; a malformed label line,
            with file and line.
    """
    source = Path(source)
    names = image_names(source)
    states = FileStates(names)
    path = cache_path(source) if cache else None
    index = _read_cache(path, source, names, states) if path else None
    # The number of classes is not part of the key, so that tools that do not know it share the cache.
    if index is None or _highest_class(index) >= (classes or np.inf):
        _check_images(source, names)
        index, problems = scan_dataset(source, names, classes, states)
        if problems:
            more = f" (and {len(problems) - 1} more such lines)" if len(problems) > 1 else ""
            raise InputError(f"{problems[0]}{more}")
        if path:
            _write_cache(path, index, states.key)
    warn_of_labels(index)
    return index


def scan_dataset(source, images, classes=None, states=None):
    """Read every image's header and labels, without a cache and without stopping at what is wrong.

    Args:
        source: what the images are called together.
        images: list of paths or text.
        classes: number of classes, or None.
        states: FileStates of the images if they are known already.
    Returns:
        index: DatasetIndex of the good lines; sizes are 0, 0 for files that are no images.
        problems: list of InputError, one a malformed label line or unreadable label file, in the list's order.
    """
    states = states or FileStates(images)
    read = functools.partial(_read_entry, classes=classes)
    entries = _map_in_processes(read, list(zip(images, states.labels, strict=True)), f"reading {Path(source).name}")
    index = DatasetIndex(
        source=Path(source),
        images=PathList(images),
        labels=[scan.labels for _, scan, _ in entries],
        sizes=np.array([size for size, _, _ in entries], np.int64).reshape(-1, 2),
        missing_labels=states.labels.count(None),
        polygons=sum(scan.polygons for _, scan, _ in entries),
        scores=sum(scan.scores for _, scan, _ in entries),
        image_key=states.image_key,
    )
    return index, [problem for _, _, problems in entries for problem in problems]


def cache_path(source):
    """Where the cache of a list file or folder is, `NAME.cache` beside it; None for a glob or a single image."""
    source = Path(source)
    if source.is_dir():
        source = source.resolve()  # "." has no name to stand beside
    elif not source.is_file() or is_image_name(source):
        return None
    return source.with_name(f"{source.name}.cache")


def _names_in(folder):
    try:
        return frozenset(os.listdir(folder or "."))
    except OSError:
        return frozenset()


def _absolute(names):
    """The names as they are from whichever folder a list is opened."""
    folders, absolute = {}, []
    for name in names:
        folder, separator, name = name.rpartition(os.sep)
        if folder not in folders:
            folders[folder] = os.path.join(os.path.abspath(folder + separator), "")
        absolute.append(folders[folder] + name)
    return absolute


def _file_states(names):
    """[2·N] int64, size and time in ns of each file, -1 where there is none."""
    states = []
    for name in names:
        size = time = -1
        if name is not None:
            with contextlib.suppress(OSError, ValueError):
                state = os.stat(name)
                size, time = state.st_size, state.st_mtime_ns
        states.append(size)
        states.append(time)
    return np.array(states, np.int64)


def _map_in_processes(function, items, title):
    """List of `function(item)`, with a progress bar; many items are shared out to processes where they can fork.

    Reading headers and lines is Python's work, so threads would only take turns.
    """
    processes = 1
    if sys.platform == "linux":  # elsewhere forking is unsafe, or there is none
        processes = min(len(os.sched_getaffinity(0)), len(items) // ITEMS_A_PROCESS)
    with contextlib.ExitStack() as stack:
        if processes > 1:
            # Ctrl-C is the parent's to handle; it stops the others.
            ignore = (signal.SIGINT, signal.SIG_IGN)
            pool = stack.enter_context(get_context("fork").Pool(processes, signal.signal, ignore))
            results = pool.imap(function, items, chunksize=100)
        else:
            results = map(function, items)
        return list(tqdm(results, title, len(items), unit="image", disable=None))


def _read_entry(files, classes):
    """Size of one image, LabelScan of its labels, and the InputErrors met in them; `files` is their two paths."""
    image, label = files
    try:
        size = image_size(image)
    except InputError:
        size = (0, 0)
    try:
        scan = scan_text(read_text(label) if label else "", classes)
    except InputError as error:
        return size, scan_text(""), [error]
    return size, scan, [label_error(label, *problem) for problem in scan.problems]


def _check_images(source, names):
    missing = [position for position, name in enumerate(names) if not os.path.exists(name)]
    if missing:
        first = missing[0]
        # A folder can name what is not there too: a link to nothing.
        where = f"{source}:{list_entries(source)[first][0]}" if source.is_file() else source
        more = f" ({len(missing)} of {len(names)} images are missing)" if len(missing) > 1 else ""
        raise InputError(f"{where}: expected an image, found nothing at {names[first]}{more}")


def _highest_class(index):
    return np.concatenate([np.empty((0, 5)), *index.labels])[:, 0].max(initial=-1)


def warn_of_labels(index):
    """Say how many label files are missing, and how many lines were polygons or had a score: a line each."""
    if index.missing_labels:
        warn(
            f"{index.source}: {index.missing_labels} of {len(index)} images have no label file and count as images "
            "without objects"
        )
    if index.polygons:
        warn(f"{index.source}: {index.polygons} label lines are polygons; their bounding boxes are used")
    if index.scores:
        warn(f"{index.source}: {index.scores} label lines have a score as sixth value; it is not used")


def _write_cache(path, index, key):
    """Write the cache; a folder that cannot be written to is no error, the next run just reads everything again."""
    arrays = {
        "version": np.array(CACHE_VERSION),
        "key": np.array(key),
        "counts": np.array([len(labels) for labels in index.labels], np.int64),
        "labels": np.concatenate([np.empty((0, 5), np.float32), *index.labels]),
        "sizes": index.sizes,
        "notes": np.array([index.missing_labels, index.polygons, index.scores], np.int64),
    }
    with contextlib.suppress(InputError, OSError), atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def _read_cache(path, source, names, states):
    """The cached index, or None if there is none, it is of other data, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if file["version"] != CACHE_VERSION or file["key"] != states.key:
                return None
            counts, labels, sizes, notes = (file[name] for name in ("counts", "labels", "sizes", "notes"))
        whole = (
            counts.shape == (len(names),)
            and sizes.shape == (len(names), 2)
            and labels.shape == (counts.sum(), 5)
            and labels.dtype == np.float32
        )
        missing_labels, polygons, scores = notes.tolist()
    except Exception:  # a damaged file fails in many ways, and each means the same: read everything again
        return None
    if not whole:
        return None
    ends = np.cumsum(counts).tolist()
    starts = [0, *ends[:-1]]
    labels = [labels[start:end] for start, end in zip(starts, ends, strict=True)]
    return DatasetIndex(source, PathList(names), labels, sizes, missing_labels, polygons, scores, states.image_key)


def open_list(config, key):
    """Open the list that a .data file names under "train" or "val".

    Raises:
        InputError: there is no such list, or it cannot be read.
    """
    from utils.dataset.shapes import prepare

    source = getattr(prepare(config), key)
    if source is None:
        raise InputError(f"{config.path}: {key}: expected a list of images, got None")
    return load_index(source, config.classes)
