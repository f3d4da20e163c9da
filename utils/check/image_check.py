"""Decoding every image of a data set, to find those that are damaged, the same, or turned and mirrored copies."""

import hashlib
import math
import multiprocessing
import os
import signal
import tempfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from utils.dataset.images import read_image
from utils.errors import InputError, RunError

CHUNK = 16  # images a process is given at once
COMPARED = 256  # thumbnails compared with all others at once

THUMBNAIL = 16  # pixels, each side
FLAT = 1.0  # grey levels; a thumbnail that varies by less shows nothing to compare
# Correlation of thumbnails from which pictures are taken for the same. COCO's, halved, turned and saved as JPEG of
# quality 50, keep 0.9989 and more with themselves; different ones reach 0.79, photos of the same scene up to 0.99.
LOOK_ALIKE = 0.995

# What decoders say of files that are unusual but whose pixels are all there.
_HARMLESS = ("extraneous bytes", "warning")


class Decoded(NamedTuple):
    """What came of decoding one image."""

    digest: bytes | None  # of size and pixels, equal for equal pictures; None if there are none
    problem: str | None  # why there are none
    complaint: str | None  # what the decoder said of a damaged file whose pixels it gave all the same
    thumbnail: np.ndarray  # [THUMBNAIL²] float16, grey, mean 0 and length 1; zeros if there is nothing to compare


class LookAlike(NamedTuple):
    """Two pictures that show the same."""

    first: int  # position in the first list
    second: int  # position in the second list
    turned: int  # degrees that the first has to be turned by, counter-clockwise, to be the second
    mirrored: bool  # whether it has to be mirrored after that


def decode_images(images, workers=None):
    """Decode all images, in parallel.

    Args:
        images: list of paths.
        workers: number of processes; None is one a core.
    Returns:
        list of Decoded, in the same order.
    Raises:
        RunError: a process was killed.
    """
    # Processes and not threads: the decoders' libraries complain on standard error without naming the file,
    # and only a process of its own knows which file it is reading. Started afresh and not forked: OpenCV's threads
    # do not survive a fork, and the copy would wait for them for ever.
    workers = min(workers or os.cpu_count() or 1, math.ceil(len(images) / CHUNK))
    fresh = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, fresh, _start_worker) as pool:
            decoded = pool.map(_decode, images, chunksize=CHUNK)
            return list(tqdm(decoded, "decoding", len(images), unit="image", disable=None))
    except BrokenProcessPool as error:
        raise RunError("a process that was decoding images has died; is there enough memory?") from error


def _start_worker():
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle
    with tempfile.TemporaryFile() as complaints:
        os.dup2(complaints.fileno(), 2)


def _decode(path):
    try:
        image = read_image(path)
    except InputError as error:
        _read_complaints()
        return Decoded(None, str(error), None, np.zeros(THUMBNAIL**2, np.float16))
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(image.data)
    lines = [line for line in _read_complaints().splitlines() if not any(word in line.lower() for word in _HARMLESS)]
    complaint = f"{path}: {'; '.join(lines)}" if lines else None
    return Decoded(digest.digest(), None, complaint, make_thumbnail(image))


def _read_complaints():
    """What was written to standard error since the last call."""
    length = os.lseek(2, 0, os.SEEK_CUR)
    os.lseek(2, 0, os.SEEK_SET)
    text = os.read(2, length).decode(errors="replace")
    os.lseek(2, 0, os.SEEK_SET)
    return text


def make_thumbnail(image):
    """What `find_look_alikes` compares.

    Args:
        image: [H, W, 3] uint8.
    Returns:
        [THUMBNAIL²] float16, as in Decoded.
    """
    small = cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    # The mean of three channels and not a grey picture: thirds of a grey level count in dark pictures.
    grey = small.astype(np.float32).mean(2).ravel()
    grey -= grey.mean()
    length = np.linalg.norm(grey)
    return (grey / length if length > FLAT * THUMBNAIL else np.zeros_like(grey)).astype(np.float16)


def find_look_alikes(first, second):
    """For each thumbnail of one list the likest of another, as it is, turned by quarters, mirrored.

    Args:
        first: [n, THUMBNAIL²]; second: [m, THUMBNAIL²], from `make_thumbnail`.
    Returns:
        list of LookAlike, at most one for each of `first`, those whose correlation is above LOOK_ALIKE.
    """
    if not len(second):
        return []
    second = second.astype(np.float32).T
    views = [(turned, mirrored) for mirrored in (False, True) for turned in range(4)]
    found = []
    for start in range(0, len(first), COMPARED):
        squares = first[start : start + COMPARED].astype(np.float32).reshape(-1, THUMBNAIL, THUMBNAIL)
        positions, scores = [], []
        for turned, mirrored in views:
            view = np.rot90(squares, turned, (1, 2))
            correlation = (view[..., ::-1] if mirrored else view).reshape(len(squares), -1) @ second
            positions.append(correlation.argmax(1))
            scores.append(correlation.max(1))
        best = np.argmax(scores, 0)
        for row in np.flatnonzero(np.max(scores, 0) > LOOK_ALIKE).tolist():
            turned, mirrored = views[best[row]]
            found.append(LookAlike(start + row, int(positions[best[row]][row]), 90 * turned, mirrored))
    return found
