"""Frames of a video file, a camera or a network stream."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from utils.dataset.images import check_size
from utils.errors import InputError, warn

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".mts", ".3gp", ".ogv"}
    | {".gif"}
)

_DEFAULT_FPS = 30.0  # for cameras that do not report their rate
_MAX_FPS = 1000.0
_MIN_COMPLETE = 0.9  # fraction of the frame count in the header; a video with fewer frames may be damaged
_GIVE_UP = 60.0  # seconds without a frame after which a run with a camera or stream ends
_WAITS = (1.0, 10.0)  # shortest and longest wait before it is opened again, in seconds; the wait doubles

# Problems with a video are reported here, so FFmpeg does not have to log them.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


class Frame(NamedTuple):
    """One image."""

    origin: str  # path or address of the image or video, or the name of the camera
    index: int | None  # in a video, from 0
    stem: str  # name of its results: a relative path with `/`, without a suffix
    image: np.ndarray  # [H, W, 3] uint8, BGR
    read_seconds: float


class VideoSource(contextlib.AbstractContextManager):
    """Frames of a video file.

    Args:
        capture: an opened video.
        origin: path or address of the video.
        name: name of the results; None: the name of the file.

    Raises:
        InputError: its frames are too large.
    """

    unit = "frames"
    single = False
    endless = False
    failed = ()
    incomplete = False  # True if a camera or stream has stopped and could not be opened again
    drops = 0  # how often a camera or stream stopped and was opened again

    def __init__(self, capture: cv2.VideoCapture, origin: str, name: str | None = None) -> None:
        self.capture, self.origin = capture, origin
        self.name = PurePath(origin).stem if name is None else name
        check_size(origin, capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        fps = capture.get(cv2.CAP_PROP_FPS)
        # Cameras and damaged headers give 0, NaN or impossible values.
        self.fps = fps if math.isfinite(fps) and 0 < fps <= _MAX_FPS else _DEFAULT_FPS
        self.length = None if self.endless else frame_count(capture)

    def __exit__(self, *_: object) -> None:
        self.capture.release()

    def __iter__(self) -> Iterator[Frame]:
        for index in itertools.count():
            image, seconds = self._read()
            if image is None:
                break
            if image.ndim == 2:  # some drivers give gray frames
                image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
            yield Frame(self.origin, index, f"{self.name}-{index:06}", image, seconds)
        if index == 0:
            raise InputError(f"{self.origin}: expected a video, but its first frame cannot be decoded")
        if self.length and index < _MIN_COMPLETE * self.length:
            warn(f"{self.origin}: ends after {index} of {self.length} frames; it may be damaged")

    def _read(self) -> tuple[np.ndarray | None, float]:
        """Return the next frame, or None at the end, and the seconds that reading it took."""
        start = time.perf_counter()
        decoded, image = self.capture.read()
        return image if decoded else None, time.perf_counter() - start


class LiveSource(VideoSource):
    """Frames of a camera or a network stream, which has no last frame. If it stops, it is opened again.

    Args:
        origin: name or address, for messages.
        open_capture: opens the camera or stream again.
    """

    endless = True

    def __init__(
        self, capture: cv2.VideoCapture, origin: str, name: str, open_capture: Callable[[], cv2.VideoCapture]
    ) -> None:
        super().__init__(capture, origin, name)
        self._open_capture = open_capture
        self._started = False  # the first frame has been read

    def _read(self) -> tuple[np.ndarray | None, float]:
        image, seconds = super()._read()
        if image is None and self._started:
            image, seconds = self._reopen()
        self._started = True
        return image, seconds

    def _reopen(self) -> tuple[np.ndarray | None, float]:
        """Open the source again until it gives a frame, with growing waits, for `_GIVE_UP` seconds."""
        self.drops += 1
        warn_above_progress(f"{self.origin}: no more frames; opening it again for {_GIVE_UP:.0f} s", self.drops)
        deadline = time.monotonic() + _GIVE_UP
        wait, longest = _WAITS
        while (left := deadline - time.monotonic()) > 0:
            self.capture.release()
            time.sleep(min(wait, left))
            wait = min(2 * wait, longest)
            self.capture = self._open_capture()
            image, seconds = super()._read() if self.capture.isOpened() else (None, 0.0)
            if image is not None:
                return image, seconds
        self.incomplete = True
        warn_above_progress(f"{self.origin}: no frame for {_GIVE_UP:.0f} s; the run ends, its results are kept")
        return None, 0.0


def frame_count(capture: cv2.VideoCapture) -> int | None:
    """Return the number of frames, which is an estimate in some formats; None if it is unknown."""
    length = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(length) if math.isfinite(length) and length > 0 else None


def warn_above_progress(message: str, count: int = 1) -> None:
    """Print a warning above the progress bar."""
    with tqdm.external_write_mode(file=sys.stderr):
        warn(message, count)
