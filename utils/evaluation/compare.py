"""Several models side by side: what they measure, how large and how quick they are."""

import statistics
from pathlib import Path

import numpy as np

from utils.evaluation.detect import detect_images
from utils.evaluation.metrics import measure
from utils.runtimes.loading import load_runtime
from utils.runtimes.ncnn_runtime import PARAM_SUFFIX, bin_path
from utils.text import align_columns

THREADS = (1, 2)
RUNS = 30  # of one image, after a few that warm up
WARM_UP = 5


def evaluate_all(models, config, index, batch_size=16, workers=2, **limits):
    """Measure models on a data set, on the CPU.

    Args:
        models: paths of .pth, .onnx or .ncnn.param files.
        config: Config, for the network's size and the names of the classes.
        index: DatasetIndex.
        batch_size, workers, limits: as in `utils.evaluation.detect.detect_images`.
    Returns:
        A table as text: runtime, precision, size, AP50, AP, latency on one and two threads.
    Raises:
        InputError: a model does not fit.
    """
    rows = [["model", "runtime", "precision", "KB", "AP50", "AP", *(f"ms, {count} thr." for count in THREADS)]]
    for model in models:
        runtime = load_runtime(model, config, "cpu")
        detections = detect_images(runtime, index, config, batch_size, workers, **limits)
        figures = measure(detections, index, (config.width, config.height), config.class_names).coco.figures
        times = [latency(load_runtime(model, config, "cpu", threads), config) for threads in THREADS]
        size = sum(path.stat().st_size for path in model_files(model))
        rows.append(
            [
                *(Path(model).name, runtime.name, runtime.precision, f"{size / 1000:.0f}"),
                *(f"{figures[name]:.4f}" for name in ("AP50", "AP")),
                *(f"{milliseconds:.2f}" for milliseconds in times),
            ]
        )
    lines = [
        f"{len(index)} images of {index.source}; latency of the network alone, median of {RUNS}, images one by one"
    ]
    return "\n".join([*lines, align_columns(rows, left=(0, 1, 2))])


def latency(runtime, config):
    """Milliseconds that a Runtime's network takes for one image, the median."""
    image = np.random.default_rng(0).integers(0, 256, (1, config.height, config.width, 3), np.uint8)
    # Above a score of 1 there is nothing to post-process.
    times = [runtime.predict_timed(image, conf=1, iou=1)[1].network for _ in range(WARM_UP + RUNS)]
    return statistics.median(times[WARM_UP:]) * 1e3


def model_files(model):
    """The files that running a model needs, less descriptions."""
    return [Path(model), bin_path(model)] if str(model).endswith(PARAM_SUFFIX) else [Path(model)]
