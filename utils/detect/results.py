"""Detections written to files: pictures, videos, darknet labels, cut-out objects, JSON."""

import contextlib
import json
import math
import re
from pathlib import Path

import cv2
import numpy as np

from utils.errors import RunError
from utils.files import atomic_path, new_folder, write_text

# Endings by which pictures are written as they came; all others become PNG, which holds any size.
_KEPT_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_ANY_SIZE_SUFFIX = ".png"
_CODECS = (("mp4v", ".mp4"), ("MJPG", ".avi"))  # the first that the machine can write this size with
_LONGEST_NAME = 60  # characters of a class name in a folder's name


def result_folder(path):
    """`path` as a new folder, or as the empty one that it is, or `path-2`, `-3` … where earlier results lie.

    Raises:
        InputError: it cannot be made.
    """
    path = Path(path)
    if path.name in ("", ".."):  # the working directory, a root: not what is meant to be replaced by `-2`
        path = path / "test"
    if path.is_dir() and not any(path.iterdir()):
        return path
    return new_folder(path.parent, path.name)


def write_image(path, image):
    """Write [H, W, 3] uint8 BGR in the format of the path's ending, as PNG where that cannot hold the image.

    Returns:
        Path that was written; its ending may be another one.
    Raises:
        InputError: the folder cannot be written to. RunError: the image cannot be written.
    """
    path = Path(path)
    suffixes = [path.suffix] if path.suffix.lower() in _KEPT_SUFFIXES else []
    for suffix in (*suffixes, _ANY_SIZE_SUFFIX):
        with contextlib.suppress(cv2.error):
            written, data = cv2.imencode(suffix, image)
            if written:
                path = path.with_name(path.stem + suffix)
                # Not cv2.imwrite: on Windows it cannot write names outside the system's code page.
                with atomic_path(path) as temporary:
                    temporary.write_bytes(data)
                return path
    raise RunError(f"{path}: OpenCV cannot write an image of {image.shape[1]}x{image.shape[0]} pixels")


class VideoFile:
    """A video that is written frame by frame; the file appears, whole, when it is closed.

    Args:
        stem: path of the file without its ending, which depends on what the machine can write.
        fps: frames a second.
    """

    def __init__(self, stem, fps):
        self.stem = Path(stem)
        self.fps = fps
        self.path = None  # once there is a frame
        self._resources = contextlib.ExitStack()
        self._writer = None
        self._size = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self._writer is not None:
            self._writer.release()
        return self._resources.__exit__(*error)

    def write(self, image):
        """Add a frame, [H, W, 3] uint8 BGR; one of another size than the first is resized to it."""
        if self._writer is None:
            self._open(image.shape[1::-1])
        if image.shape[1::-1] != self._size:
            image = cv2.resize(image, self._size)
        self._writer.write(image)

    def _open(self, size):
        self._size = size
        for codec, suffix in _CODECS:
            path = self.stem.with_name(self.stem.name + suffix)
            with contextlib.suppress(_CodecRefused), contextlib.ExitStack() as resources:
                temporary = resources.enter_context(atomic_path(path))
                writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter_fourcc(*codec), self.fps, size)
                if not writer.isOpened():
                    raise _CodecRefused
                self._writer, self.path, self._resources = writer, path, resources.pop_all()
                return
        raise RunError(f"{self.stem}: OpenCV cannot write a video of {size[0]}x{size[1]} pixels here")


class _CodecRefused(Exception):
    pass


def darknet_lines(detections, image_size):
    """Detections as label lines with a score, `class cx cy w h score`, as fractions of the image.

    Args:
        detections: [n, 6], (x1, y1, x2, y2, score, class) in pixels of the image.
        image_size: (width, height).
    Returns:
        Text, a line a detection.
    """
    x1, y1, x2, y2, scores, labels = np.asarray(detections, dtype=float).reshape(-1, 6).T
    width, height = image_size
    boxes = zip((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height, strict=True)
    return "".join(
        f"{int(label)} {cx:.6g} {cy:.6g} {w:.6g} {h:.6g} {score:.4f}\n"
        for (cx, cy, w, h), score, label in zip(boxes, scores, labels, strict=True)
    )


def cut_out(image, box):
    """The part of an image that a box (x1, y1, x2, y2) touches, at least one pixel."""
    height, width = image.shape[:2]
    left, top = min(math.floor(box[0]), width - 1), min(math.floor(box[1]), height - 1)
    return image[top : max(math.ceil(box[3]), top + 1), left : max(math.ceil(box[2]), left + 1)]


def folder_name(class_name):
    """A class name as a folder can be called on any system."""
    name = re.sub(r"[^\w\- ]", "_", class_name)[:_LONGEST_NAME].strip()
    return name or "_"


def as_record(frame, detections, class_names):
    """What the JSON file tells about one frame."""
    record = {"file": frame.origin} if frame.number is None else {"file": frame.origin, "frame": frame.number}
    height, width = frame.image.shape[:2]
    return record | {
        "width": width,
        "height": height,
        "detections": [
            {
                "class": int(label),
                "name": class_names[int(label)],
                "score": round(score, 4),
                "box": [round(value, 2) for value in box],
            }
            for *box, score, label in np.asarray(detections, dtype=float).reshape(-1, 6).tolist()
        ],
    }


def write_json(path, head, records):
    """Write the JSON file of a run: the entries of `head`, then "frames", one record a line."""
    lines = json.dumps(head, indent=1)[: -len("\n}")] + ',\n "frames": [\n  '
    write_text(path, lines + ",\n  ".join(map(json.dumps, records)) + "\n ]\n}\n")
