"""Decode every image of a data set, and record the decoders' messages about damaged files."""

import hashlib
import math
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from utils.dataset.images import read_header, read_image
from utils.dataset.similar import THUMBNAIL, make_thumbnail
from utils.errors import InputError, RunError

CHUNK = 16  # images that a process gets at a time

# Words in messages of decoders about unusual files whose pixels are complete.
_HARMLESS = ("extraneous bytes", "warning")


class DecodedImage(NamedTuple):
    """The result of decoding one image."""

    digest: bytes | None  # hash of size and pixels, None if the image cannot be decoded
    error: str | None  # why it cannot be decoded
    damage: str | None  # the decoder's messages if it decoded a damaged file anyway
    thumbnail: np.ndarray  # [THUMBNAIL²] float16 from `make_thumbnail`
    rotated: bool = False  # whether its EXIF orientation rotates or mirrors it


def decode_images(images: Sequence[str | Path], workers: int | None = None) -> list[DecodedImage]:
    """Decode images in parallel processes.

    Args:
        workers: number of processes; None: one per core.

    Raises:
        RunError: a process was killed.
    """
    # Processes, not threads: decoders write messages without file names to standard error, which each process reads
    # back after each image. Not forked, because OpenCV's threads do not survive a fork.
    workers = min(workers or os.cpu_count() or 1, math.ceil(len(images) / CHUNK))
    try:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker) as pool:
            decoded = pool.map(_decode, images, chunksize=CHUNK)
            return list(tqdm(decoded, "decoding", len(images), unit="image", disable=None))
    except BrokenProcessPool as error:
        raise RunError("a process that decodes images was killed; is there enough memory?") from error


def _start_worker() -> None:
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process handles Ctrl-C
    with tempfile.TemporaryFile() as messages:
        os.dup2(messages.fileno(), 2)


def _decode(path: str | Path) -> DecodedImage:
    try:
        image = read_image(path)
        rotated = read_header(path).orientation != 1
    except InputError as error:
        _read_messages()
        return DecodedImage(None, str(error), None, np.zeros(THUMBNAIL**2, np.float16))
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(image.data)
    messages = [line for line in _read_messages() if not any(word in line.lower() for word in _HARMLESS)]
    damage = f"{path}: {'; '.join(messages)}" if messages else None
    return DecodedImage(digest.digest(), None, damage, make_thumbnail(image), rotated)


def _read_messages() -> list[str]:
    """Return the lines that this process wrote to standard error since the last call."""
    length = os.lseek(2, 0, os.SEEK_CUR)
    os.lseek(2, 0, os.SEEK_SET)
    text = os.read(2, length).decode(errors="replace")
    os.lseek(2, 0, os.SEEK_SET)
    return text.splitlines()
