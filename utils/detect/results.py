"""Files with detections: images, videos, darknet labels, cropped objects, JSON."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from utils.detect.options import DetectOptions
from utils.detect.sources import ImageSource
from utils.detect.video import Frame, VideoSource
from utils.errors import RunError
from utils.files import atomic_path, new_folder, write_text

SINGLE_RESULT = "test_result.png"  # for one image, in the working directory, as in the original project
# Images keep these suffixes; all others become PNG, which has no size limit.
_KEPT_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_CODECS = (("mp4v", ".mp4"), ("MJPG", ".avi"))  # the first one that OpenCV can use for the size of the frames
_MAX_NAME_LENGTH = 60  # characters of a class name in the name of a folder


class ResultWriter(contextlib.ExitStack):
    """Write the results frame by frame. The folder and the video file are created when they are first needed.

    The folder is new. An existing `options.output` is used only if it is empty.
    """

    def __init__(self, options: DetectOptions, source: ImageSource | VideoSource, class_names: Sequence[str]) -> None:
        super().__init__()
        self.options, self.source, self.class_names = options, source, class_names
        self.written: list[str | Path] = []
        self.records: list[dict] = []  # one per frame, for the JSON file
        # Checked now, because another run may create this folder later.
        self._is_given = options.output is not None and os.path.isdir(options.output) and not os.listdir(options.output)
        self._folder: Path | None = None
        self._video: cv2.VideoWriter | None = None
        self._video_size: tuple[int, int] | None = None  # that of the first frame

    @property
    def folder(self) -> Path:
        if self._folder is None:
            path = Path(self.options.output or Path("runs", "test", self.source.name))
            self._folder = path if self._is_given else result_folder(path)
            self.written.append(self._folder)
        return self._folder

    def write(self, frame: Frame, detections: np.ndarray, drawn: np.ndarray) -> None:
        """Write one frame's detections and `drawn`, the image with boxes."""
        if self.source.fps is not None:
            self._write_frame(drawn)
        elif self.source.single and self.options.output is None:
            self.written.append(write_image(SINGLE_RESULT, drawn))
        else:
            write_image(self.folder / (frame.stem + Path(frame.origin).suffix), drawn)
        if self.options.txt:
            text = label_lines(detections, frame.image.shape[1::-1])
            write_text(self.folder / "labels" / f"{frame.stem}.txt", text)
        if self.options.crop:
            for rank, (*box, _, class_id) in enumerate(detections.tolist(), 1):
                folder = self.folder / "crops" / folder_name(self.class_names[int(class_id)])
                write_image(folder / f"{frame.stem}-{rank}.png", crop(frame.image, box))
        if self.options.json:
            self.records.append(frame_record(frame, detections, self.class_names))

    def _write_frame(self, image: np.ndarray) -> None:
        """Add a frame to the video; it is resized if its size differs from that of the first frame."""
        if self._video is None:
            self._video_size = image.shape[1::-1]
            stem = self.folder / self.source.name
            self._video = self.enter_context(open_video(stem, self.source.fps, self._video_size))
        if image.shape[1::-1] != self._video_size:
            image = cv2.resize(image, self._video_size)
        self._video.write(image)

    def write_json(self, settings: Mapping[str, object]) -> None:
        """Write the JSON file: the settings, the images that were skipped, and one record per frame."""
        content = {**settings, "skipped": self.source.failed, "frames": self.records}
        write_text(self.options.json, json.dumps(content, indent=1) + "\n")
        self.written.append(self.options.json)


def result_folder(path: Path) -> Path:
    """Create a folder for results: `path`, or `path-2`, `path-3`, … if it exists.

    Raises:
        InputError: the folder cannot be created.
    """
    if path.name in ("", ".."):  # `-2` cannot be added to these paths
        path = path / "test"
    return new_folder(path.parent, path.name)


def write_image(path: str | Path, image: np.ndarray) -> Path:
    """Write an image [H, W, 3] in the format of the path's suffix, or as PNG if that format cannot hold it.

    Returns:
        The path of the file; its suffix may differ from that of `path`.

    Raises:
        InputError: the folder cannot be written to.
        RunError: OpenCV cannot write the image.
    """
    path = Path(path)
    for suffix in (path.suffix if path.suffix.lower() in _KEPT_SUFFIXES else ".png", ".png"):
        with contextlib.suppress(cv2.error):
            encoded, data = cv2.imencode(suffix, image)
            if encoded:
                path = path.with_name(path.stem + suffix)
                # Not cv2.imwrite, which cannot write all names on Windows.
                with atomic_path(path) as temporary:
                    temporary.write_bytes(data)
                return path
    raise RunError(f"{path}: OpenCV cannot write an image of {image.shape[1]}x{image.shape[0]} pixels")


@contextlib.contextmanager
def open_video(stem: Path, fps: float, size: tuple[int, int]) -> Iterator[cv2.VideoWriter]:
    """Open a video file for writing. It gets its final name when the block ends without an error.

    Args:
        stem: path of the file without its suffix, which depends on the codec.
        size: (width, height) of the frames in pixels.

    Raises:
        InputError: the folder cannot be written to.
        RunError: OpenCV cannot write the video.
    """
    for codec, suffix in _CODECS:
        path = stem.with_name(stem.name + suffix)
        with contextlib.suppress(_CodecError), atomic_path(path) as temporary:
            writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter_fourcc(*codec), fps, size)
            if not writer.isOpened():
                raise _CodecError
            try:
                yield writer
            finally:
                writer.release()
            # OpenCV does not report failed writes, so read the first frame.
            if not cv2.VideoCapture(str(temporary)).grab():
                raise RunError(f"{path}: the video could not be written; is the disk full?")
            return
    raise RunError(f"{stem}: OpenCV cannot write a video of {size[0]}x{size[1]} pixels on this machine")


class _CodecError(Exception):
    pass


def label_lines(detections: np.ndarray, image_size: tuple[int, int]) -> str:
    """Format detections as darknet labels with a score, one line `class cx cy w h score` per detection.

    Args:
        detections: [n, 6] (x1, y1, x2, y2, score, class id) in pixels of the image.
        image_size: (width, height) in pixels.
    """
    rows = np.asarray(detections, dtype=float).reshape(-1, 6)
    centers, sizes = (rows[:, :2] + rows[:, 2:4]) / 2 / image_size, (rows[:, 2:4] - rows[:, :2]) / image_size
    return "".join(
        f"{int(class_id)} {cx:.6g} {cy:.6g} {w:.6g} {h:.6g} {score:.4f}\n"
        for class_id, cx, cy, w, h, score in np.column_stack((rows[:, 5], centers, sizes, rows[:, 4])).tolist()
    )


def crop(image: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """Return the pixels of an image that a box (x1, y1, x2, y2) touches, at least one."""
    height, width = image.shape[:2]
    left, top = min(math.floor(box[0]), width - 1), min(math.floor(box[1]), height - 1)
    return image[top : max(math.ceil(box[3]), top + 1), left : max(math.ceil(box[2]), left + 1)]


def folder_name(class_name: str) -> str:
    """Turn a class name into a folder name that is valid on every operating system."""
    return re.sub(r"[^\w\- ]", "_", class_name)[:_MAX_NAME_LENGTH].strip() or "_"


def frame_record(frame: Frame, detections: np.ndarray, class_names: Sequence[str]) -> dict:
    """Return the entry of a frame in the JSON file."""
    height, width = frame.image.shape[:2]
    objects = []
    for *box, score, class_id in detections.tolist():
        name, box = class_names[int(class_id)], [round(value, 2) for value in box]
        objects.append({"class": int(class_id), "name": name, "score": round(score, 4), "box": box})
    index = {} if frame.index is None else {"frame": frame.index}
    return {"file": frame.origin, **index, "width": width, "height": height, "detections": objects}
