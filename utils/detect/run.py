"""Detect in every frame of a source: the work of test.py."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from utils.boxes import frame_to_image
from utils.config import DEFAULT_CONF, Config, read_config
from utils.dataset.images import resize_image
from utils.detect.classes import select_classes
from utils.detect.options import DetectOptions
from utils.detect.results import ResultWriter
from utils.detect.sources import ImageSource, open_source
from utils.detect.video import Frame, VideoSource
from utils.detect.window import open_window, show_image
from utils.errors import RunError
from utils.files import check_writable
from utils.machine import CoreWait, thread_count
from utils.plots.draw import draw_detections
from utils.plots.fonts import check_font, class_labels
from utils.postprocess import Thresholds
from utils.runtimes.base import Runtime
from utils.runtimes.loading import check_weights_path, load_runtime
from utils.text import counted

TRIAL_FRAMES = 5
WORTHWHILE = 0.9  # more threads are used only if a frame then takes less than this share of the time


@dataclass
class Summary:
    """Counts and times of a run."""

    source: ImageSource | VideoSource
    class_names: Sequence[str]
    model: str  # weights file, runtime, input size and class count, as text
    device: str  # as text
    threshold: str  # as text
    frames: int = 0
    detections: Counter = field(default_factory=Counter)  # by class id
    frames_with: Counter = field(default_factory=Counter)  # frames with detections of a class, by class id
    seconds: Counter = field(default_factory=Counter)  # of all frames, by the name of the step
    last: np.ndarray | None = None  # detections of the last frame, [n, 6]
    busy_note: str = ""  # not empty if other programs compete for the cores
    interrupted: bool = False  # Ctrl-C ended the run before the last frame
    written: list[str | Path] = field(default_factory=list)

    def add(self, frame: Frame, detections: np.ndarray, seconds: dict[str, float]) -> None:
        counts = Counter(detections[:, 5].astype(int).tolist())
        self.frames += 1
        self.detections.update(counts)
        self.frames_with.update(counts.keys())
        self.seconds.update({"read": frame.read_seconds, **seconds})
        self.last = detections


class FrameDetector:
    """Detect in single images of any size.

    Args:
        runtime: from `utils.runtimes.loading.load_runtime`.
        size: (width, height) of the network's input in pixels.
    """

    def __init__(self, runtime: Runtime, size: tuple[int, int], thresholds: Thresholds) -> None:
        self.runtime, self.size, self.thresholds = runtime, size, thresholds
        # The first run of a network takes many times longer than the others, so it is not measured.
        self(np.zeros((1, 1, 3), np.uint8))

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        """Detect in one image.

        Args:
            image: [H, W, 3] uint8, BGR.

        Returns:
            detections: [n, 6] float32 (x1, y1, x2, y2, score, class id) in pixels, inside the image, best first.
            seconds: per step, by its name.
        """
        start = time.perf_counter()
        resized = resize_image(image, *self.size)
        resize_seconds = time.perf_counter() - start
        (detections,), timing = self.runtime.predict_timed(resized[None], self.thresholds)
        start = time.perf_counter()
        detections[:, :4] = frame_to_image(detections[:, :4], self.size, image.shape[1::-1])
        # Boxes outside the image have no area after clipping.
        detections = detections[(detections[:, 2] > detections[:, 0]) & (detections[:, 3] > detections[:, 1])]
        scale_seconds = time.perf_counter() - start
        return detections, {
            "pre-processing": resize_seconds + timing.preprocess,
            "network": timing.network,
            "post-processing": timing.postprocess + scale_seconds,
        }


def choose_threads(detector: FrameDetector, most: int) -> None:
    """Try numbers of CPU threads up to `most`, and use the fastest.

    The network is so small that threads often wait for each other longer than they compute, especially if other
    programs use the cores.
    """
    if detector.runtime.device != "cpu":
        return
    blank = np.zeros((*detector.size[::-1], 3), np.uint8)
    best, least = 1, float("inf")
    for count in sorted({1, min(2, most), min(4, most), most}):
        detector.runtime.set_threads(count)
        detector(blank)
        start = time.perf_counter()
        for _ in range(TRIAL_FRAMES):
            detector(blank)
        seconds = time.perf_counter() - start
        if seconds < WORTHWHILE * least:
            best, least = count, seconds
    detector.runtime.set_threads(best)


def _check_files(options: DetectOptions) -> Config | None:
    """Read the .data file, and check that weights and font exist and that the JSON file can be written."""
    config = read_config(options.data) if options.data else None
    check_weights_path(options.weights)
    if options.font:
        check_font(options.font)
    if options.json:
        check_writable(options.json)
    return config


def detect(options: DetectOptions) -> Summary:
    """Detect in every frame of a source, and write and show the results.

    Raises:
        InputError: an option or an input file cannot be used.
        RunError: no frame could be read, or a result could not be written.
        KeyboardInterrupt: Ctrl-C before the first result. After that, Ctrl-C ends the run and keeps the results.
    """
    config = _check_files(options)
    with open_source(options.img) as source:
        runtime = load_runtime(options.weights, config, options.device)
        config = config or runtime.info
        classes = None if options.classes is None else select_classes(options.classes, config.class_names)
        conf, conf_origin = options.conf, ""
        if conf is None:
            conf = runtime.info.conf
            conf_origin = " (default)" if conf == DEFAULT_CONF else " (stored with the weights)"
        thresholds = Thresholds(conf, options.iou, options.max_det, classes)
        detector = FrameDetector(runtime, config.size, thresholds)
        if options.threads or source.single:
            runtime.set_threads(options.threads or 1)
        else:
            choose_threads(detector, thread_count())
        labels = None if options.hide_labels else class_labels(config.class_names, options.font)
        show = options.show and open_window(source.name)
        classes_text = counted(config.classes, "class", "classes")
        model = f"{options.weights} ({runtime.name}, {config.width}x{config.height}, {classes_text})"
        threshold = f"score above {conf:g}{conf_origin}"
        summary = Summary(source, config.class_names, model, runtime.device_name, threshold)
        core_wait = CoreWait()
        progress = tqdm(source, total=source.length, unit=f" {source.unit}", disable=True if source.single else None)
        with ResultWriter(options, source, config.class_names) as writer, progress as frames:
            try:
                for frame in frames:
                    detections, seconds = detector(frame.image)
                    drawn = draw_detections(frame.image, detections, labels, options.line_width)
                    writer.write(frame, detections, drawn)
                    summary.add(frame, detections, seconds)
                    if show and not show_image(source.name, drawn, wait=source.fps is None):
                        break
            except KeyboardInterrupt:
                if not summary.frames:
                    raise
                summary.interrupted = not source.endless  # a camera or stream has no last frame
    summary.busy_note = core_wait.note()
    if not summary.frames:
        count = len(source.failed)
        raise RunError("the image could not be read" if count == 1 else f"none of {count} images could be read")
    if options.json:
        writer.write_json({"data": options.data, "weights": options.weights, **dataclasses.asdict(thresholds)})
    summary.written = writer.written
    return summary
