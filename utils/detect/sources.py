"""Sources of images: image files, a video file, a camera.

A source can be iterated over once:

    with open_source("street.mp4") as source:
        for frame in source:
            ...
"""

from __future__ import annotations

import glob
import itertools
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from utils.dataset.images import is_image_name, read_image
from utils.dataset.lists import list_images
from utils.errors import InputError, warn

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".mts", ".3gp", ".ogv"}
    | {".gif"}
)

_DEFAULT_FPS = 30.0  # for cameras that do not report their rate
_MAX_FPS = 1000.0
_MIN_COMPLETE = 0.9  # fraction of the frame count in the header; a video with fewer frames may be damaged

# Problems with a video are reported here, so FFmpeg does not have to log them.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


class Frame(NamedTuple):
    """One image."""

    origin: str  # path of the image or video, or the name of the camera
    index: int | None  # in a video, from 0
    stem: str  # name of its results: a relative path with `/`, without a suffix
    image: np.ndarray  # [H, W, 3] uint8, BGR
    read_seconds: float


class ImageSource:
    """Image files. A file that cannot be read is skipped with a warning, and listed in `failed`.

    Args:
        paths: of the images.
        name: of the folder for the results.
        single: whether the user gave the path of one image.
    """

    fps = None
    endless = False

    def __init__(self, paths: Sequence[Path], name: str, single: bool = False) -> None:
        self.paths, self.name, self.single = paths, name, single
        self.length = len(paths)
        self.failed: list[str] = []  # paths

    def __enter__(self) -> ImageSource:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[Frame]:
        for path, stem in zip(self.paths, unique_stems(self.paths), strict=True):
            start = time.perf_counter()
            try:
                image = read_image(path)
            except InputError as error:
                # Otherwise the warning would be on the line of the progress bar.
                with tqdm.external_write_mode(file=sys.stderr):
                    warn(f"{error}; skipped")
                self.failed.append(str(path))
                continue
            yield Frame(str(path), None, stem, image, time.perf_counter() - start)


class VideoSource:
    """Frames of a video file or of a camera.

    Args:
        capture: an opened video or camera.
        origin: path of the video, or the name of the camera.
        endless: True for a camera, which has no last frame.
    """

    single = False
    failed = ()

    def __init__(self, capture: cv2.VideoCapture, origin: str, endless: bool = False) -> None:
        self.capture, self.origin, self.endless = capture, origin, endless
        self.name = PurePath(origin).stem
        fps = capture.get(cv2.CAP_PROP_FPS)
        # Cameras and damaged headers give 0, NaN or impossible values.
        self.fps = fps if math.isfinite(fps) and 0 < fps <= _MAX_FPS else _DEFAULT_FPS
        length = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        # An estimate in some formats; None if it is unknown.
        self.length = int(length) if math.isfinite(length) and length > 0 and not endless else None

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.capture.release()

    def __iter__(self) -> Iterator[Frame]:
        for index in itertools.count():
            start = time.perf_counter()
            decoded, image = self.capture.read()
            if not decoded:
                break
            seconds = time.perf_counter() - start
            if image.ndim == 2:  # some drivers give gray frames
                image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
            yield Frame(self.origin, index, f"{self.name}-{index:06}", image, seconds)
        if index == 0:
            raise InputError(f"{self.origin}: expected a video, got a file whose first frame cannot be decoded")
        if self.length and index < _MIN_COMPLETE * self.length:
            warn(f"{self.origin}: ends after {index} of {self.length} frames; it may be damaged")


def open_source(text: str) -> ImageSource | VideoSource:
    """Open an image, a folder, a list file, a video, a glob, or a camera given by its index.

    Raises:
        InputError: no image is found, or the video or camera cannot be opened.
    """
    path = Path(text)
    if text.isascii() and text.isdigit() and not path.exists():
        capture, name = cv2.VideoCapture(int(text)), f"camera{text}"
        if not capture.isOpened():
            raise InputError(f"camera {text}: cannot be opened; is it connected, and not used by another program?")
        return VideoSource(capture, name, endless=True)
    if path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir():
        if not path.exists():
            raise InputError(f"{path}: cannot read: no such file")
        capture = cv2.VideoCapture(text)
        if not capture.isOpened():
            raise InputError(f"{path}: expected a video, got a file that OpenCV cannot open")
        return VideoSource(capture, text)
    # The content identifies images with unusual suffixes, the suffix identifies damaged images.
    if path.is_file() and (is_image_name(path) or cv2.haveImageReader(str(path))):
        return ImageSource([path], source_name(path), single=True)
    return ImageSource(list_images(text), source_name(path))


def source_name(path: str | Path) -> str:
    """Name the results of a file, folder or glob: b for `a/b.txt`, for `a/b` and for `a/b/*.jpg`."""
    path = Path(os.path.abspath(path))
    if path.is_file():
        return path.stem
    while glob.has_magic(path.name) and not path.exists():
        path = path.parent
    return path.name or "images"


def unique_stems(paths: Sequence[str | Path]) -> list[str]:
    """Name the results of each image: its path below the common folder, with `/`, without the suffix.

    If an earlier image has the same name, `-2`, `-3`, … is added.
    """
    absolute = [os.path.abspath(path) for path in paths]
    try:
        common = os.path.commonpath([os.path.dirname(path) for path in absolute])
        relative = [PurePath(os.path.relpath(path, common)) for path in absolute]
    except ValueError:  # on different drives
        relative = [PurePath(path).relative_to(PurePath(path).anchor) for path in absolute]
    stems = {}  # a dict is an ordered set
    for path in relative:
        candidates = itertools.chain((path.stem,), (f"{path.stem}-{number}" for number in itertools.count(2)))
        names = (path.with_name(name).as_posix() for name in candidates)
        stems[next(name for name in names if name not in stems)] = None
    return list(stems)
