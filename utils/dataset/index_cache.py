"""Cache of a dataset index: one file of arrays next to the list, valid until a listed file changes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from utils.dataset.images import is_image_name
from utils.dataset.labels import CHANGES, MAX_CLASSES
from utils.errors import InputError
from utils.files import atomic_path

if TYPE_CHECKING:
    from utils.dataset.index import DatasetIndex

CACHE_VERSION = 5  # increase it when the content of an index, or the way label lines are parsed, changes


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


def file_keys(images: Sequence[str], labels: Sequence[str | None]) -> FileKeys:
    """Compute digests of the image files and the label files."""
    digest = hashlib.sha256("\0".join(absolute_paths(images)).encode("utf-8", "surrogateescape"))
    digest.update(_file_states(images).tobytes())
    image_key = digest.hexdigest()
    digest.update(_file_states(labels).tobytes())
    return FileKeys(image_key, digest.hexdigest())


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


def read_cache(path: Path, key: str, count: int) -> dict | None:
    """Read a cache. Nothing in it is trusted: it may be damaged, or be part of a downloaded data set.

    Args:
        key: `FileKeys.all` of the files that the cache must belong to.
        count: number of images.

    Returns:
        The fields `labels`, `sizes` and `changes` of a DatasetIndex; None if the cache is missing, outdated or damaged.
    """
    try:
        with np.load(path) as file:
            # Caches are not compressed. A compressed file could fill the memory with a thousand times its size.
            is_compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in file.zip.infolist())
            if is_compressed or file["version"].item() != CACHE_VERSION or file["key"].item() != key:
                return None
            counts = _read_array(file, "counts", np.int64, (count,))
            labels = _read_array(file, "labels", np.float32, (counts.sum(), 5))
            sizes = _read_array(file, "sizes", np.int64, (count, 2))
            changes = _read_array(file, "changes", np.int64, (len(CHANGES),))
    except Exception:  # damaged files raise many types
        return None
    classes, values = labels[:, 0], labels[:, 1:]
    is_valid = (
        bool(((classes >= 0) & (classes < MAX_CLASSES) & (classes == np.floor(classes))).all())
        and bool(((values >= 0) & (values <= 1)).all() and (values[:, 2:] > 0).all())
        and min(array.min(initial=0) for array in (counts, sizes, changes)) >= 0
    )
    if not is_valid:
        return None
    ends = np.cumsum(counts).tolist()
    starts = [0, *ends[:-1]]
    labels = [labels[start:end] for start, end in zip(starts, ends, strict=True)]
    return {"labels": labels, "sizes": sizes, "changes": dict(zip(CHANGES, changes.tolist(), strict=True))}


def _read_array(file: np.lib.npyio.NpzFile, name: str, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    array = file[name]
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"expected {shape} {dtype}, got {array.shape} {array.dtype}")
    return array
