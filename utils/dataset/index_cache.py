"""Cache of a dataset index: one file of arrays next to the list, valid until a listed file changes."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.dataset.images import is_image_name
from utils.errors import InputError
from utils.files import atomic_path

if TYPE_CHECKING:
    from utils.dataset.index import DatasetIndex

CACHE_VERSION = 2  # increase it when the content of an index, or the way label lines are parsed, changes


def cache_path(source: str | Path) -> Path | None:
    """Cache of a list file or folder, `NAME.cache` next to it; None for a glob or a single image."""
    source = Path(source)
    if source.is_dir():
        source = source.resolve()  # "." has no name
    elif not source.is_file() or is_image_name(source):
        return None
    return source.with_name(f"{source.name}.cache")


def file_keys(images: Sequence[str], labels: Sequence[str | None]) -> tuple[str, str]:
    """Digests of the image files, and of image and label files: image paths, sizes and times."""
    digest = hashlib.sha256("\0".join(absolute_paths(images)).encode("utf-8", "surrogateescape"))
    digest.update(_file_states(images).tobytes())
    image_key = digest.hexdigest()
    digest.update(_file_states(labels).tobytes())
    return image_key, digest.hexdigest()


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

    The change time tells apart files that were replaced by others of the same size and modification time, for example
    from an archive.
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
    """Write the cache, or nothing if the folder is read-only; then the next run reads all files again."""
    arrays = {
        "version": np.array(CACHE_VERSION),
        "key": np.array(key),
        "counts": np.array([len(labels) for labels in index.labels], np.int64),
        "labels": np.concatenate([np.empty((0, 5), np.float32), *index.labels]),
        "sizes": index.sizes,
        "notes": np.array([index.missing_labels, index.polygons, index.scores, index.keypoints], np.int64),
    }
    with contextlib.suppress(InputError, OSError), atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def read_cache(path: Path, key: str, count: int) -> dict | None:
    """Read a cache.

    Args:
        key: digest of all files, from `file_keys`.
        count: number of images.

    Returns:
        The fields `labels`, `sizes`, `polygons`, `scores` and `keypoints` of a DatasetIndex; None if the cache is
        missing, outdated or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if file["version"] != CACHE_VERSION or file["key"] != key:
                return None
            counts, labels, sizes, notes = (file[name] for name in ("counts", "labels", "sizes", "notes"))
        _, polygons, scores, keypoints = notes.tolist()
        is_valid = (
            counts.shape == (count,)
            and sizes.shape == (count, 2)
            and labels.shape == (counts.sum(), 5)
            and labels.dtype == np.float32
        )
    except Exception:  # damaged files raise many types
        return None
    if not is_valid:
        return None
    ends = np.cumsum(counts).tolist()
    starts = [0, *ends[:-1]]
    labels = [labels[start:end] for start, end in zip(starts, ends, strict=True)]
    return {"labels": labels, "sizes": sizes, "polygons": polygons, "scores": scores, "keypoints": keypoints}
