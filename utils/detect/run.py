"""Detecting in every frame of a source, and writing what was found."""

import contextlib
import functools
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from utils.boxes import frame_to_image
from utils.detect import results
from utils.errors import InputError, RunError
from utils.files import write_text
from utils.plots.draw import draw_detections

SINGLE_RESULT = "test_result.png"  # of one image, in the working directory, as the original has it


class FrameDetector:
    """A runtime for single images of any size.

    Args:
        runtime: as from `utils.runtimes.loading.load_runtime`.
        size: (width, height) of the network's input.
        thresholds: `conf`, `iou`, `max_det`, `classes`, see `utils.postprocess.detect`.
    """

    def __init__(self, runtime, size, **thresholds):
        self.runtime = runtime
        self.size = size
        self.thresholds = thresholds
        # The first pass through a network takes many times as long as the others and would be what is reported.
        self(np.zeros((1, 1, 3), np.uint8))

    def __call__(self, image):
        """
        Args:
            image: [H, W, 3] uint8, BGR.
        Returns:
            ([n, 6] float32 array (x1, y1, x2, y2, score, class) in pixels of the image and inside it, best first;
            dict of the seconds that each step took).
        """
        start = time.perf_counter()
        resized = cv2.resize(image, self.size, interpolation=cv2.INTER_LINEAR)
        resize_seconds = time.perf_counter() - start
        (found,), timing = self.runtime.predict_timed(resized[None], **self.thresholds)
        start = time.perf_counter()
        found = found.cpu().numpy()
        found[:, :4] = frame_to_image(found[:, :4], self.size, image.shape[1::-1])
        # What lies wholly beyond the image's edge has no area left.
        found = found[(found[:, 2] > found[:, 0]) & (found[:, 3] > found[:, 1])]
        scale_seconds = time.perf_counter() - start
        return found, {
            "pre-processing": resize_seconds + timing.preprocess,
            "network": timing.network,
            "post-processing": timing.postprocess + scale_seconds,
        }


@dataclass(frozen=True)
class Wanted:
    """What of a run is to be written besides the pictures."""

    folder: Path  # for all results; made, or one called like it, when there is a first one
    single: bool = False  # the picture is SINGLE_RESULT and not in the folder
    labels: bool = False  # darknet label files
    crops: bool = False  # cut-out objects
    records: bool = False  # entries of a JSON file


@dataclass
class Summary:
    """What a run has found and done."""

    frames: int = 0
    detections: Counter = field(default_factory=Counter)  # of each class
    frames_with: Counter = field(default_factory=Counter)  # of each class
    seconds: dict = field(default_factory=dict)  # of each step, over all frames
    last: np.ndarray | None = None  # detections of the last frame, [n, 6]
    records: list = field(default_factory=list)  # of each frame, for JSON
    written: list = field(default_factory=list)  # paths

    def add(self, frame, detections, seconds):
        self.frames += 1
        counts = Counter(detections[:, 5].astype(int).tolist())
        self.detections.update(counts)
        self.frames_with.update(counts.keys())
        for step, value in {"read": frame.read_seconds, **seconds}.items():
            self.seconds[step] = self.seconds.get(step, 0.0) + value
        self.last = detections


def check_classes(numbers, class_names):
    """Class numbers of a command line must be the model's.

    Raises:
        InputError: one is not.
    """
    for number in numbers or ():
        if not 0 <= number < len(class_names):
            raise InputError(f"--classes: expected class numbers 0…{len(class_names) - 1}, got {number}")


def detect_all(source, detector, labels, class_names, wanted, window=None):
    """Detect in every frame of a source and write what is wanted.

    Args:
        source: as from `utils.detect.sources.open_source`.
        detector: FrameDetector.
        labels: a ClassLabel a class.
        window: Window to show the pictures in, or None.
    Returns:
        Summary.
    Raises:
        RunError: no frame could be read, or a result not written. InputError: it cannot be written there.
    """
    summary = Summary()
    # A camera ends when somebody ends it.
    ended_by_user = contextlib.suppress(KeyboardInterrupt) if source.endless else contextlib.nullcontext()
    unit = " images" if source.fps is None else " frames"
    progress = tqdm(source, total=source.length, unit=unit, disable=True if source.single else None)
    with _Writer(wanted, source, class_names, summary) as writer, progress as frames, ended_by_user:
        for frame in frames:
            detections, seconds = detector(frame.image)
            picture = draw_detections(frame.image, detections, labels)
            writer.write(frame, detections, picture)
            summary.add(frame, detections, seconds)
            if window is not None and not window.show(picture, wait=source.fps is None):
                break
    if not summary.frames:
        count = len(source.failed)
        raise RunError("the image could not be read" if count == 1 else f"none of {count} images could be read")
    return summary


class _Writer:
    """Writes the results of one frame after the other."""

    def __init__(self, wanted, source, class_names, summary):
        self.wanted, self.source, self.class_names, self.summary = wanted, source, class_names, summary
        self._resources = contextlib.ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return self._resources.__exit__(*error)

    @functools.cached_property
    def folder(self):
        folder = results.result_folder(self.wanted.folder)
        self.summary.written.append(folder)
        return folder

    @functools.cached_property
    def video(self):
        return self._resources.enter_context(results.VideoFile(self.folder / self.source.name, self.source.fps))

    def write(self, frame, detections, picture):
        if self.source.fps is not None:
            self.video.write(picture)
        elif self.wanted.single:
            self.summary.written.append(results.write_image(SINGLE_RESULT, picture))
        else:
            results.write_image(self.folder / (frame.stem + Path(frame.origin).suffix), picture)
        if self.wanted.labels:
            text = results.darknet_lines(detections, frame.image.shape[1::-1])
            write_text(self.folder / "labels" / f"{frame.stem}.txt", text)
        if self.wanted.crops:
            self._write_crops(frame, detections)
        if self.wanted.records:
            self.summary.records.append(results.as_record(frame, detections, self.class_names))

    def _write_crops(self, frame, detections):
        for number, (*box, _, label) in enumerate(detections.tolist(), 1):
            name = results.folder_name(self.class_names[int(label)])
            path = self.folder / "crops" / name / f"{frame.stem}-{number}.png"
            results.write_image(path, results.cut_out(frame.image, box))
