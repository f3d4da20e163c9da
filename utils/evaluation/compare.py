"""Compare models: metrics, file size and latency in one table."""

import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.config import Config
from utils.dataset.index import DatasetIndex
from utils.evaluation.detect import detect_images
from utils.evaluation.evaluate import compute_metrics
from utils.machine import thread_count, use_threads
from utils.runtimes.base import Runtime
from utils.runtimes.loading import load_runtime, model_files
from utils.text import align_columns

THREADS = (1, 2)
WARM_UP_RUNS = 5
TIMED_RUNS = 30


def compare_models(models: Sequence[str | Path], config: Config, index: DatasetIndex, **detect_options: object) -> str:
    """Evaluate models on the CPU.

    Args:
        models: paths of .pth, .onnx, .ncnn.param or .tflite files.
        detect_options: as in `utils.evaluation.detect.detect_images`.

    Returns:
        A table as text, one line per model: runtime, precision, size, AP50, AP, latency on one and two threads.

    Raises:
        InputError: a model does not fit the config.
    """
    threads_before = thread_count()
    rows = [["model", "runtime", "precision", "KB", "AP50", "AP", *(f"ms, {threads} thr." for threads in THREADS)]]
    for model in models:
        runtime = load_runtime(model, config, "cpu")
        detections = detect_images(runtime, index, config, **detect_options)
        summary = compute_metrics(detections, index, config).coco.summary
        latencies = [network_latency(runtime, config, threads) for threads in THREADS]
        use_threads(threads_before)
        size = sum(path.stat().st_size for path in model_files(model))
        rows.append(
            [
                *(Path(model).name, runtime.name, runtime.precision, f"{size / 1000:.0f}"),
                *(f"{summary[name]:.4f}" for name in ("AP50", "AP")),
                *(f"{latency:.2f}" for latency in latencies),
            ]
        )
    title = f"{len(index)} images of {index.source}; latency of the network for one image, median of {TIMED_RUNS} runs"
    return f"{title}\n{align_columns(rows, left=(0, 1, 2))}"


def network_latency(runtime: Runtime, config: Config, threads: int) -> float:
    """Median time of the network for one image, in milliseconds."""
    runtime.set_threads(threads)
    image = np.random.default_rng(0).integers(0, 256, (1, config.height, config.width, 3), np.uint8)
    prepared = runtime.prepare(image)
    times = []
    for _ in range(WARM_UP_RUNS + TIMED_RUNS):
        start = runtime.now()
        runtime.execute(prepared)
        times.append(runtime.now() - start)
    return statistics.median(times[WARM_UP_RUNS:]) * 1e3
