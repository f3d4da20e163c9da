"""Sources of images: image files, a video file, a camera, a network address.

A source can be iterated over once:

    with open_source("street.mp4") as source:
        for frame in source:
            ...
"""

from __future__ import annotations

import contextlib
import functools
import glob
import itertools
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath

import cv2
import numpy as np

from utils.dataset.images import decode_image, is_image_name, read_image
from utils.dataset.lists import list_images
from utils.detect.address import Address, download_image, parse_address
from utils.detect.video import VIDEO_SUFFIXES, Frame, LiveSource, VideoSource, frame_count, warn_above_progress
from utils.errors import InputError


class ImageSource(contextlib.AbstractContextManager):
    """Image files. A file that cannot be read is skipped with a warning, and listed in `failed`.

    Args:
        name: name of the folder for the results.
        single: whether the user gave the path of one image.
    """

    unit = "images"
    fps = None
    endless = False
    drops = 0

    def __init__(
        self,
        paths: Sequence[str | Path],
        name: str,
        single: bool = False,
        read: Callable[[str | Path], np.ndarray] = read_image,
    ) -> None:
        self.paths, self.name, self.single, self._read = paths, name, single, read
        self.length = len(paths)
        self.failed: list[str] = []  # paths

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def incomplete(self) -> bool:
        """Whether an image could not be read."""
        return bool(self.failed)

    def __iter__(self) -> Iterator[Frame]:
        for path, stem in zip(self.paths, unique_stems(self.paths), strict=True):
            start = time.perf_counter()
            try:
                image = self._read(path)
            except InputError as error:
                self.failed.append(str(path))
                warn_above_progress(f"{error}; skipped", len(self.failed))
                continue
            yield Frame(str(path), None, stem, image, time.perf_counter() - start)


def open_source(text: str) -> ImageSource | VideoSource:
    """Open an image, a folder, a list file, a video, a glob, a camera given by its index, or a network address.

    Raises:
        InputError: no image is found, or the video, camera or address cannot be opened.
        RunError: an image cannot be downloaded.
    """
    if not text:
        raise InputError("--img: expected an image, folder, video, camera or address, got an empty text")
    path = Path(text)
    address = parse_address(text)
    if address is not None:
        return _open_address(address)
    if re.fullmatch("[0-9]{1,9}", text) and not path.exists():
        open_capture, name = functools.partial(cv2.VideoCapture, int(text)), f"camera{text}"
        capture = open_capture()
        if not capture.isOpened():
            raise InputError(f"camera {text}: cannot be opened; is it connected, and not used by another program?")
        return LiveSource(capture, name, name, open_capture)
    if path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir():
        if not path.exists():
            raise InputError(f"{path}: cannot read: no such file")
        capture = cv2.VideoCapture(text)
        if not capture.isOpened():
            raise InputError(f"{path}: expected a video, got a file that OpenCV cannot open")
        return VideoSource(capture, text)
    # Images with unusual suffixes are recognized by their content, damaged images by their suffix.
    if path.is_file() and (is_image_name(path) or cv2.haveImageReader(str(path))):
        return ImageSource([path], source_name(path), single=True)
    return ImageSource(list_images(text), source_name(path))


def _open_address(address: Address) -> ImageSource | VideoSource:
    if address.is_image:
        content = download_image(address)  # now, so that an error is reported before the network is loaded
        return ImageSource([address.shown], address.name, single=True, read=functools.partial(decode_image, content))
    open_capture = functools.partial(cv2.VideoCapture, address.url)
    capture = open_capture()
    if not capture.isOpened():
        raise InputError(f"{address.shown}: expected a video or stream, OpenCV cannot open this address")
    if address.is_video_file or frame_count(capture):
        return VideoSource(capture, address.shown, address.name)
    return LiveSource(capture, address.shown, address.name, open_capture)


def source_name(path: str | Path) -> str:
    """Return a name for the results of a file, folder or glob: b for `a/b.txt`, `a/b` and `a/b/*.jpg`."""
    path = Path(os.path.abspath(path))
    if path.is_file():
        return path.stem
    while glob.has_magic(path.name) and not path.exists():
        path = path.parent
    return path.name or "images"


def unique_stems(paths: Sequence[str | Path]) -> list[str]:
    """Return a name for the results of each image: its path below the common folder, with `/`, without the suffix.

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
        stem = path.with_suffix("").as_posix()
        names = (stem if count == 1 else f"{stem}-{count}" for count in itertools.count(1))
        stems[next(name for name in names if name not in stems)] = None
    return list(stems)
