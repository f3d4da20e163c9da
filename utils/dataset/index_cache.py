"""Cache of a dataset index: one file of arrays next to the list, valid until a listed file changes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from utils.dataset.images import is_image_name
from utils.dataset.labels import CHANGES, MAX_CLASSES, MIN_LINE_BYTES
from utils.errors import InputError
from utils.files import atomic_path

if TYPE_CHECKING:
    from utils.dataset.index import DatasetIndex

CACHE_VERSION = 5  # increase it when the content of an index, or the way label lines are parsed, changes
_MAX_HEADER = 1024  # bytes before the values of an array


def cache_path(source: str | Path) -> Path | None:
    """Cache of a list file or folder, `NAME.cache` next to it; None for a glob or a single image."""
    source = Path(source)
    if source.is_dir():
        source = source.resolve()  # "." has no name
    elif not source.is_file() or is_image_name(source):
        return None
    return source.with_name(f"{source.name}.cache")


class FileKeys(NamedTuple):
    """What identifies the files of a data set."""

    images: str  # digest of paths, sizes and times of the images
    all: str  # digest of the images and label files
    label_bytes: int  # in all label files


def file_keys(images: Sequence[str], labels: Sequence[str | None]) -> FileKeys:
    """Compute digests of the image files and the label files."""
    digest = hashlib.sha256("\0".join(absolute_paths(images)).encode("utf-8", "surrogateescape"))
    digest.update(_file_states(images).tobytes())
    image_key = digest.hexdigest()
    label_states = _file_states(labels)
    digest.update(label_states.tobytes())
    return FileKeys(image_key, digest.hexdigest(), int(label_states[::3].clip(0).sum()))


def absolute_paths(paths: Sequence[str]) -> list[str]:
    """Make paths absolute, without `.` and `..`; each folder is resolved once."""
    folders, absolute = {}, []
    for path in paths:
        folder, separator, name = path.rpartition(os.sep)
        if folder not in folders:
            folders[folder] = os.path.join(os.path.abspath(folder + separator), "")
        absolute.append(folders[folder] + name)
    return absolute


def _file_states(paths: Sequence[str | None]) -> np.ndarray:
    """[3·N] int64: size in bytes, modification and change time in ns of each file; -1 for missing files.

    The change time shows that a file was replaced by one with the same size and modification time, for example from an
    archive.
    """
    states = []
    for path in paths:
        state = (-1, -1, -1)
        if path is not None:
            with contextlib.suppress(OSError, ValueError):
                found = os.stat(path)
                state = (found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        states += state
    return np.array(states, np.int64)


def write_cache(path: Path, index: DatasetIndex, key: str) -> None:
    """Write the cache. In a read-only folder nothing is written, and the next run reads all files again."""
    arrays = {
        "version": np.array(CACHE_VERSION, np.int64),
        "key": np.array(key),
        "counts": np.array([len(labels) for labels in index.labels], np.int64),
        "labels": np.concatenate([np.empty((0, 5), np.float32), *index.labels]),
        "sizes": index.sizes,
        "changes": np.array([index.changes[kind] for kind in CHANGES], np.int64),
    }
    with contextlib.suppress(InputError, OSError), atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def read_cache(path: Path, keys: FileKeys, count: int) -> dict | None:
    """Read a cache. Nothing in it is trusted: it may be damaged, or be part of a downloaded data set.

    Args:
        keys: of the files that the cache must belong to.
        count: number of images.

    Returns:
        The fields `labels`, `sizes` and `changes` of a DatasetIndex; None if the cache is missing, outdated or damaged.
    """
    try:
        with zipfile.ZipFile(path) as file:
            if _read_array(file, "version", "<i8", ()) != CACHE_VERSION:
                return None
            if _read_array(file, "key", f"<U{len(keys.all)}", ()) != keys.all:
                return None
            counts = _read_array(file, "counts", "<i8", (count,))
            boxes = int(counts.sum())
            if counts.min(initial=0) < 0 or boxes > keys.label_bytes // MIN_LINE_BYTES:
                return None
            labels = _read_array(file, "labels", "<f4", (boxes, 5))
            sizes = _read_array(file, "sizes", "<i8", (count, 2))
            changes = _read_array(file, "changes", "<i8", (len(CHANGES),))
    except Exception:  # damaged files raise many types
        return None
    classes, values = labels[:, 0], labels[:, 1:]
    is_valid = (
        bool(((classes >= 0) & (classes < MAX_CLASSES) & (classes == np.floor(classes))).all())
        and bool(((values >= 0) & (values <= 1)).all() and (values[:, 2:] > 0).all())
        and min(sizes.min(initial=0), changes.min()) >= 0
    )
    if not is_valid:
        return None
    ends = np.cumsum(counts).tolist()
    starts = [0, *ends[:-1]]
    labels = [labels[start:end] for start, end in zip(starts, ends, strict=True)]
    return {"labels": labels, "sizes": sizes, "changes": dict(zip(CHANGES, changes.tolist(), strict=True))}


def _read_array(file: zipfile.ZipFile, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Read an array of an .npz file whose type and shape are known; no more bytes than it has are inflated.

    Raises:
        ValueError, KeyError or another error: the file has no such array.
    """
    entry = file.getinfo(f"{name}.npy")
    array_bytes = np.dtype(dtype).itemsize * math.prod(shape)
    if not array_bytes <= entry.file_size <= array_bytes + _MAX_HEADER:
        raise ValueError(f"expected {array_bytes} bytes, got {entry.file_size}")
    content = io.BytesIO(file.read(entry))
    np.lib.format.read_magic(content)
    found = np.lib.format.read_array_header_1_0(content)
    if found != (shape, False, np.dtype(dtype)):
        raise ValueError(f"expected {shape} {dtype}, got {found}")
    return np.frombuffer(content.read(), dtype).reshape(shape).copy()
