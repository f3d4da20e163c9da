"""Run a detector on every image of a data set."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from utils.config import EVAL_CONF, Config
from utils.dataset.images import read_header, read_resized
from utils.dataset.index import DatasetIndex
from utils.dataset.prefetch import prefetch_map, read_batches, single_threaded_opencv
from utils.postprocess import Thresholds
from utils.runtimes.base import Runtime

EVAL_THRESHOLDS = Thresholds(conf=EVAL_CONF)
CPU_WORKERS = 2


def detect_images(
    runtime: Runtime,
    index: DatasetIndex,
    config: Config,
    batch_size: int = 16,
    workers: int | None = None,
    thresholds: Thresholds = EVAL_THRESHOLDS,
) -> list[np.ndarray]:
    """Detect the objects in every image of a data set.

    Args:
        runtime: from `utils.runtimes.loading.load_runtime`.
        batch_size: images per batch; it only changes the speed.
        workers: threads that read images; None: one per core for a GPU, else two. Unused if `runtime` works on several
            batches in parallel.

    Returns:
        Per image an [n, 6] array, (x1, y1, x2, y2, score, class) in network input pixels, by descending score, in the
        order of the index.

    Raises:
        InputError: an image cannot be read. Its labels would count as false negatives and make the metrics wrong.
    """
    # Files that are not images have no size in the index. Report them now, not after half of the work.
    for position in np.flatnonzero(~index.sizes.all(1)):
        read_header(index.images[position])
    size, image_count, threads = config.size, len(index), runtime.batches_at_once
    predict = partial(runtime.predict, thresholds=thresholds)
    if threads == 1:
        if workers is None:
            workers = CPU_WORKERS if runtime.device == "cpu" else os.cpu_count() or CPU_WORKERS
        return collect_detections(predict, read_batches(index, size, batch_size, workers), image_count)
    # Each thread also reads its images: with separate threads for reading there would be more threads than cores, and
    # the evaluation would be about 25 % slower.
    count = min(batch_size, -(-image_count // threads))
    batches = (range(start, min(start + count, image_count)) for start in range(0, image_count, count))

    def read_and_predict(positions: range) -> list[np.ndarray]:
        return predict(np.stack([read_resized(index.images[position], *size) for position in positions]))

    with single_threaded_opencv():
        return collect_detections(read_and_predict, batches, image_count, threads)


def collect_detections(
    predict: Callable[[Any], list[np.ndarray]],
    batches: Iterable[Any],
    image_count: int,
    threads: int = 1,
    show_progress: bool = True,
) -> list[np.ndarray]:
    """Call `predict` for each batch, with a progress bar.

    Args:
        predict: returns N arrays [n, 6] for a batch of N images.
        threads: batches processed in parallel; these threads share PyTorch's threads.

    Returns:
        One [n, 6] array per image, in the order of the batches.
    """
    disable = None if show_progress else True  # None hides the bar where the output is not a terminal
    bar = tqdm(total=image_count, desc="evaluating", unit="image", disable=disable, leave=False)
    detections = []
    with (
        bar,
        _thread_pool(threads) as pool,
        contextlib.closing(prefetch_map(pool, predict, batches, threads)) as predictions,
    ):
        for found in predictions:
            detections += found
            bar.update(len(found))
    return detections


@contextlib.contextmanager
def _thread_pool(size: int) -> Iterator[ThreadPoolExecutor]:
    """A thread pool in which each thread gets an equal share of PyTorch's threads, if PyTorch is in use."""
    torch = sys.modules.get("torch")
    if torch is None:
        with ThreadPoolExecutor(size) as pool:
            yield pool
        return
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(size, "network", torch.set_num_threads, (max(1, threads // size),)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)  # set_num_threads in the pool also changed the default of later threads
