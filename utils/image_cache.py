"""Images kept unpacked and resized, in memory or in one file that is mapped into memory."""

import glob
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from utils.dataset_index import cache_path
from utils.errors import InputError
from utils.files import atomic_path

CACHE_KINDS = ("ram", "disk")


def cache_images(index, width, height, kind, load):
    """All images of a data set as one array.

    An image that cannot be read is left black, so black means "ask the file itself" to whoever reads the array.

    Args:
        index: DatasetIndex.
        width, height: in pixels.
        kind: "ram", or "disk" for a file beside the list (`NAME.WIDTHxHEIGHT-KEY.npy`), which later runs use
            again as long as no image has changed.
        load: function of an image's number that gives [height, width, 3] uint8, or raises InputError.
    Returns:
        [N, height, width, 3] uint8, not to be written to.
    Raises:
        InputError: they do not fit into the memory that is free, or onto the disk.
    """
    shape = (len(index), height, width, 3)
    if kind == "ram":
        _check_space(shape, available_memory(), "of memory are free", "use --cache disk, or no cache")
        images = np.zeros(shape, np.uint8)
        _fill(images, load)
        return images
    base = cache_path(index.source)
    if base is None:
        raise InputError(f"{index.source}: --cache disk needs a list file or a folder to write beside")
    prefix = f"{base.stem}.{width}x{height}-"
    path = base.with_name(f"{prefix}{index.key[:16]}.npy")
    images = _open(path, shape)
    if images is None:
        _remove_older(path, prefix)
        _check_space(shape, shutil.disk_usage(base.parent).free, f"are free in {base.parent}", "free some")
        with atomic_path(path) as temporary:
            images = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
            _fill(images, load)
            images.flush()
            del images  # Windows does not rename a file that is mapped
        images = _open(path, shape)
    return images


def available_memory():
    """Bytes that can be taken without swapping, within the limit of a container; None where that is unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):  # no container, or "max": no limit
        return free
    return min(free, limit - used)


def _check_space(shape, free, what, advice):
    need = int(np.prod(shape, dtype=np.int64))
    # A tenth is left for everything else.
    if free is not None and need > 0.9 * free:
        raise InputError(
            f"--cache: {shape[0]} images at {shape[2]}x{shape[1]} need {need / 2**30:.1f} GiB, "
            f"{free / 2**30:.1f} GiB {what}; {advice}"
        )


def _fill(images, load):
    def put(number):
        try:
            images[number] = load(number)
        except InputError:
            images[number] = 0

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in tqdm(pool.map(put, range(len(images))), "caching images", len(images), unit="image", disable=None):
            pass


def _open(path, shape):
    """The file's array, or None if it is not there, damaged, or of another shape."""
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


def _remove_older(path, prefix):
    """Files of the same list and size whose images have changed since; they would pile up."""
    for older in path.parent.glob(glob.escape(prefix) + "*.npy"):
        older.unlink(missing_ok=True)
