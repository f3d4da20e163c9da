"""Images kept unpacked and resized, in memory or in one file that is mapped into memory."""

import glob
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from utils.dataset.index import cache_path
from utils.errors import InputError, RunError
from utils.files import atomic_path

CACHE_KINDS = ("ram", "disk")

_SHARE = 0.9  # of the free space that images may take; the rest is for everything else
_CHUNK = 256  # images that are unpacked before the first of them is put away


def cache_images(index, width, height, kind, load):
    """All images of a data set as one array.

    An image that cannot be read is left black, so black means "ask the file itself" to whoever reads the array.

    Args:
        index: DatasetIndex.
        width, height: in pixels.
        kind: "ram", or "disk" for a file beside the list (`NAME.WIDTHxHEIGHT-KEY.npy`), which later runs use
            again as long as no image has changed, and which is replaced when one has.
        load: function of an image's number that gives [height, width, 3] uint8, or raises InputError.
    Returns:
        [N, height, width, 3] uint8, not to be written to.
    Raises:
        InputError: they do not fit into the memory that is free or onto the disk, or cannot be written there.
        RunError: writing failed.
    """
    shape = (len(index), height, width, 3)
    if kind == "ram":
        _check_space(shape, available_memory(), "of memory are free; use --cache disk, or no cache")
        images = np.empty(shape, np.uint8)
        for number, image in enumerate(_load_all(shape, load)):
            images[number] = image
        return images
    path = pixels_path(index, width, height)
    images = _open(path, shape)
    if images is None:
        _remove_older(path)
        _check_space(shape, _free_disk(path.parent), f"are free in {path.parent}; free some, or use no cache")
        _write(path, shape, load)
        images = _open(path, shape)
    return images


def pixels_path(index, width, height):
    """Where the images of a data set are kept on disk.

    Raises:
        InputError: the data set is a glob, which has no place of its own.
    """
    beside = cache_path(index.source)
    if beside is None:
        raise InputError(f"{index.source}: --cache disk needs a list file or a folder, beside which it writes")
    return beside.with_name(f"{beside.stem}.{width}x{height}-{index.image_key[:16]}.npy")


def available_memory():
    """Bytes that can be taken without swapping, within the limit of a container; None where that is unknown."""
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
        # Pages of files count as used, but are given up when memory is needed.
        return min(free, limit - used + int(statistics["inactive_file"]))
    except (OSError, ValueError, KeyError):  # no container, or "max": no limit
        return free


def _free_disk(folder):
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _check_space(shape, free, advice):
    need = int(np.prod(shape, dtype=np.int64))
    if free is not None and need > _SHARE * free:
        raise InputError(
            f"--cache: {shape[0]} images at {shape[2]}x{shape[1]} need {need / 2**30:.1f} GiB, "
            f"{free / 2**30:.1f} GiB {advice}"
        )


def _load_all(shape, load):
    """Every image in order, black where there is none, unpacked in threads: OpenCV lets go of Python's lock."""

    def load_or_black(number):
        try:
            return load(number)
        except InputError:
            return np.zeros(shape[1:], np.uint8)

    # In chunks, because a pool would unpack far ahead of whoever puts the images away.
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(desc="caching images", total=shape[0], unit="image", disable=None) as bar,
    ):
        for first in range(0, shape[0], _CHUNK):
            for image in pool.map(load_or_black, range(first, min(first + _CHUNK, shape[0]))):
                yield image
                bar.update()


def _write(path, shape, load):
    """The array as an .npy file. Written and not mapped: a full disk is then an error and not a crash."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with atomic_path(path) as temporary:
        try:
            with temporary.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                for image in _load_all(shape, load):
                    file.write(image.data)
        except OSError as error:
            raise RunError(f"{path}: cannot write: {error.strerror}") from error


def _open(path, shape):
    """The file's array, or None if it is not there, damaged, or of another shape."""
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


def _remove_older(path):
    """Files of the same list and size, whose images have changed since: they would pile up."""
    prefix = path.name.rpartition("-")[0]
    for older in path.parent.glob(f"{glob.escape(prefix)}-{'[0-9a-f]' * 16}.npy"):
        older.unlink(missing_ok=True)
