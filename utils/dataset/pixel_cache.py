"""Decoded and resized images of a data set, in memory or in a memory-mapped file."""

import contextlib
import glob
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from utils.dataset.index import DatasetIndex
from utils.dataset.index_cache import cache_path
from utils.dataset.prefetch import prefetch_map
from utils.errors import InputError, RunError
from utils.files import atomic_path, unfinished_files, unfinished_name

CACHE_KINDS = ("ram", "disk")

_MAX_SHARE = 0.9  # of the free memory or disk space
_ABANDONED = 3600  # seconds since the last write to an unfinished file
_AHEAD = 256  # images that the threads decode in advance


class PixelCache:
    """All images of a data set in one array; images that cannot be decoded are stored as black.

    Args:
        width, height: in pixels.
        kind: "ram"; or "disk" for a file next to the list (`NAME.WIDTHxHEIGHT-KEY.npy`), which later runs use until
            an image changes.
        decode: reads the image at a position as [height, width, 3] uint8, or raises InputError.

    Raises:
        InputError: not enough free memory or disk space, or the file cannot be created.
        RunError: writing failed.
    """

    def __init__(
        self, index: DatasetIndex, width: int, height: int, kind: str, decode: Callable[[int], np.ndarray]
    ) -> None:
        shape = (len(index), height, width, 3)
        self.in_memory = kind == "ram"
        if self.in_memory:
            _check_space(shape, available_memory(), "of memory are free; use --cache disk, or no cache")
            self.images = np.empty(shape, np.uint8)
            for position, image in enumerate(decode_all(shape, decode)):
                self.images[position] = image
            return
        path = pixels_path(index, width, height)
        self.images = _open(path, shape)
        if self.images is None:
            _remove_outdated(path)
            free = shutil.disk_usage(path.parent).free
            _check_space(shape, free, f"are free in {path.parent}; free some, or use no cache")
            _write(path, shape, decode)
            self.images = _open(path, shape)

    def read(self, position: int) -> np.ndarray | None:
        """Copy of an image; None if it is black, because images that cannot be decoded are stored as black."""
        image = self.images[position]
        return image.copy() if image.any() else None


def pixels_path(index: DatasetIndex, width: int, height: int) -> Path:
    """File of a cache on disk.

    Raises:
        InputError: the data set is a glob or a single image.
    """
    path = cache_path(index.source)
    if path is None:
        raise InputError(f"{index.source}: --cache disk needs a list file or a folder, and writes next to it")
    return path.with_name(f"{path.stem}.{width}x{height}-{index.image_key[:16]}.npy")


def available_memory() -> int | None:
    """Bytes that can be allocated without swapping, within the limit of a container; None if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        used = int((group / "memory.current").read_text(encoding="ascii"))
        statistics = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
        # Cached file pages count as used, but the kernel frees them when memory is needed.
        return min(free, limit - used + int(statistics["inactive_file"]))
    except (OSError, ValueError, KeyError):  # not in a container, or "max": no limit
        return free


def _check_space(shape: tuple[int, ...], free: int | None, where: str) -> None:
    """Raise InputError if an array of bytes needs more than _MAX_SHARE of the free bytes.

    Args:
        where: end of the error message.
    """
    need = int(np.prod(shape, dtype=np.int64))
    if free is not None and need > _MAX_SHARE * free:
        raise InputError(
            f"--cache: {shape[0]} images at {shape[2]}x{shape[1]} need {need / 2**30:.1f} GiB, "
            f"{free / 2**30:.1f} GiB {where}"
        )


def decode_all(shape: tuple[int, ...], decode: Callable[[int], np.ndarray]) -> Iterator[np.ndarray]:
    """Decode all images in order, in threads: OpenCV releases the GIL.

    Args:
        shape: (images, height, width, 3).
        decode: as for `PixelCache`; images that it cannot read are black.
    """

    def decode_or_black(position: int) -> np.ndarray:
        try:
            return decode(position)
        except InputError:
            return np.zeros(shape[1:], np.uint8)

    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        contextlib.closing(prefetch_map(pool, decode_or_black, range(shape[0]), _AHEAD)) as images,
    ):
        yield from tqdm(images, "caching images", shape[0], unit="image", disable=None)


def _write(path: Path, shape: tuple[int, ...], decode: Callable[[int], np.ndarray]) -> None:
    """Write the array as .npy file. Not through a memory map, where a full disk crashes instead of raising an error."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with atomic_path(path) as temporary:
        try:
            with temporary.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                for image in decode_all(shape, decode):
                    file.write(image.data)
        except OSError as error:
            raise RunError(f"{path}: cannot write: {error.strerror}") from error


def _open(path: Path, shape: tuple[int, ...]) -> np.memmap | None:
    """Map the array of a file; None if it is missing, damaged, or has another shape."""
    try:
        images = np.lib.format.open_memmap(path, mode="r")
    except Exception:  # damaged files raise many types
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


def _remove_outdated(path: Path) -> None:
    """Remove outdated files of the same list and size, and unfinished files of killed processes.

    An unfinished file that was written to recently is kept, because another process may be writing it.
    """
    for unfinished, name in unfinished_files(path.parent):
        with contextlib.suppress(FileNotFoundError):  # the other process has finished it
            if name == unfinished_name(path) and time.time() - unfinished.stat().st_mtime > _ABANDONED:
                unfinished.unlink()
    prefix = path.name.rpartition("-")[0]
    for outdated in path.parent.glob(f"{glob.escape(prefix)}-{'[0-9a-f]' * 16}.npy"):
        outdated.unlink(missing_ok=True)
