"""Where pictures to detect in come from: image files, a video file, a camera.

A source is an iterable of frames, once:

    with open_source("street.mp4") as source:
        for frame in source:
            ...
"""

import glob
import itertools
import math
import os
import sys
import time
from pathlib import Path, PurePath
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from utils.dataset.images import is_image_name, list_images, read_image
from utils.errors import InputError, warn

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".mts", ".3gp", ".ogv"}
    | {".gif"}
)

_ASSUMED_FPS = 30.0  # of cameras that do not tell theirs
_HIGHEST_FPS = 1000.0
_ENDED_EARLY = 0.9  # of the frames that a video's header promises

# What is wrong with a video is reported here, once, and not by FFmpeg in its own form as well.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


class Frame(NamedTuple):
    """One picture."""

    origin: str  # path of the image or video, or the camera's name
    number: int | None  # in a video, from 0
    stem: str  # what results of it are called: a relative path with `/`, without an ending
    image: np.ndarray  # [H, W, 3] uint8, BGR
    read_seconds: float


class ImageSource:
    """Image files. One that cannot be read is warned about, noted in `failed` and passed over.

    Args:
        paths: list of paths.
        name: what they are called together.
        single: whether one image was asked for, by its own path.
    """

    fps = None
    endless = False

    def __init__(self, paths, name, single=False):
        self.paths = paths
        self.name = name
        self.single = single
        self.length = len(paths)
        self.failed = []  # paths, as text

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __iter__(self):
        for path, stem in zip(self.paths, unique_stems(self.paths), strict=True):
            start = time.perf_counter()
            try:
                image = read_image(path)
            except InputError as error:
                # On a line of its own, beside whatever progress bar there is.
                with tqdm.external_write_mode(file=sys.stderr):
                    warn(f"{error}; skipped")
                self.failed.append(str(path))
                continue
            yield Frame(str(path), None, stem, image, time.perf_counter() - start)


class VideoSource:
    """Frames of a video file or, endless, of a camera.

    Args:
        capture: cv2.VideoCapture.
        origin: path of the video, or the camera's name.
        endless: whether it only ends when somebody ends it.
    """

    single = False
    failed = ()

    def __init__(self, capture, origin, endless=False):
        self.capture = capture
        self.origin = origin
        self.endless = endless
        self.name = PurePath(origin).stem
        fps = capture.get(cv2.CAP_PROP_FPS)
        # Cameras and damaged headers give 0, NaN or numbers that no video has.
        self.fps = fps if math.isfinite(fps) and 0 < fps <= _HIGHEST_FPS else _ASSUMED_FPS
        length = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        # In some formats an estimate; None where nobody knows.
        self.length = int(length) if math.isfinite(length) and length > 0 and not endless else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.capture.release()

    def __iter__(self):
        for number in itertools.count():
            start = time.perf_counter()
            there, image = self.capture.read()
            if not there:
                break
            seconds = time.perf_counter() - start
            yield Frame(self.origin, number, f"{self.name}-{number:06}", _to_bgr(image), seconds)
        if number == 0:
            raise InputError(f"{self.origin}: expected a video, its first frame cannot be decoded")
        if self.length and number < _ENDED_EARLY * self.length:
            warn(f"{self.origin}: ends after {number} of {self.length} frames; it may be damaged")


def open_source(text):
    """The source that a text names.

    Args:
        text: path of an image, a folder, a list file or a video, a glob, or the number of a camera.
    Returns:
        ImageSource or VideoSource.
    Raises:
        InputError: there is nothing, no image among it, or the video or camera cannot be opened.
    """
    path = Path(text)
    if text.isascii() and text.isdigit() and not path.exists():
        return _open_camera(int(text))
    if path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir():
        return _open_video(path)
    # By its content an image may have any ending, by its ending it may be damaged.
    if path.is_file() and (is_image_name(path) or cv2.haveImageReader(str(path))):
        return ImageSource([path], source_name(path), single=True)
    return ImageSource(list_images(text), source_name(path))


def source_name(path):
    """What a run on this file, folder or glob is called: b for `a/b.txt`, for `a/b` and for `a/b/*.jpg`."""
    path = Path(os.path.abspath(path))
    if path.is_file():
        return path.stem
    while glob.has_magic(path.name) and not path.exists():
        path = path.parent
    return path.name or "images"


def unique_stems(paths):
    """What the results of each image are called: its path within the folder that all are in, without the ending.

    A number is added where two would be called the same.

    Returns:
        list of relative paths with `/`.
    """
    absolute = [os.path.abspath(path) for path in paths]
    try:
        common = os.path.commonpath([os.path.dirname(path) for path in absolute])
        relative = [PurePath(os.path.relpath(path, common)) for path in absolute]
    except ValueError:  # on different drives
        relative = [PurePath(path).relative_to(PurePath(path).anchor) for path in absolute]
    stems = {}  # as keys, because a dict keeps their order
    for path in relative:
        candidates = itertools.chain((path.stem,), (f"{path.stem}-{number}" for number in itertools.count(2)))
        names = (path.with_name(name).as_posix() for name in candidates)
        stems[next(name for name in names if name not in stems)] = None
    return list(stems)


def _open_video(path):
    if not path.exists():
        raise InputError(f"{path}: cannot read: no such file")
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise InputError(f"{path}: expected a video, OpenCV cannot open it")
    return VideoSource(capture, str(path))


def _open_camera(number):
    capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        raise InputError(f"camera {number}: cannot be opened; is it connected, and free?")
    return VideoSource(capture, f"camera{number}", endless=True)


def _to_bgr(image):
    """Some drivers give grey frames."""
    return image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
