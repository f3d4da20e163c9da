"""Run a detector on every image of a data set."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from utils.config import Config
from utils.dataset.dataset import DetectionDataset
from utils.dataset.images import image_size
from utils.dataset.index import DatasetIndex
from utils.dataset.prefetch import prefetch_map, read_batch, read_batches, single_threaded_opencv
from utils.postprocess import MAX_DETECTIONS
from utils.runtimes.base import Runtime

EVAL_CONF = 0.01  # low, so that the precision-recall curves are complete
EVAL_IOU = 0.4
CPU_WORKERS = 2


def detect_images(
    runtime: Runtime,
    index: DatasetIndex,
    config: Config,
    batch_size: int = 16,
    workers: int | None = None,
    **limits: float,
) -> list[np.ndarray]:
    """Detect the objects in every image of a data set.

    Args:
        runtime: from `utils.runtimes.loading.load_runtime`.
        index: the images.
        config: for the input size.
        batch_size: images per batch; it only changes the speed.
        workers: threads that read images; None: one per core for a GPU, else two. Unused if `runtime` works on several
            batches in parallel.
        limits: `conf`, `iou` and `max_det` of `predict_batch`.

    Returns:
        Per image an [n, 6] array, (x1, y1, x2, y2, score, class) in network input pixels, by descending score, in the
        order of the index.

    Raises:
        InputError: an image cannot be read. Its labels would count as false negatives and make the metrics wrong.
    """
    # Files that are not images have no size in the index. Report them now, not after half of the work.
    for position in np.flatnonzero(~index.sizes.all(1)):
        image_size(index.images[position])
    dataset = DetectionDataset(index, config.width, config.height)
    image_count, threads = len(index), runtime.batches_at_once
    predict = partial(predict_batch, runtime, **limits)
    if threads == 1:
        if workers is None:
            workers = CPU_WORKERS if runtime.device.type == "cpu" else os.cpu_count() or CPU_WORKERS
        return collect_detections(predict, read_batches(dataset, batch_size, workers), image_count)
    # Each thread also reads its images: with separate threads for reading there would be more threads than cores, and
    # the evaluation would be about 25 % slower.
    size = min(batch_size, -(-image_count // threads))
    batches = (range(start, min(start + size, image_count)) for start in range(0, image_count, size))
    with single_threaded_opencv():
        return collect_detections(lambda batch: predict(read_batch(dataset, batch)), batches, image_count, threads)


def predict_batch(
    runtime: Runtime,
    batch: tuple[torch.Tensor, torch.Tensor],
    conf: float = EVAL_CONF,
    iou: float = EVAL_IOU,
    max_det: int = MAX_DETECTIONS,
) -> list[torch.Tensor]:
    """Detect the objects in a batch made by `utils.dataset.dataset.collate`: N tensors [n, 6]."""
    return runtime.predict(batch[0].permute(0, 2, 3, 1), conf=conf, iou=iou, max_det=max_det)


def collect_detections(
    predict: Callable[[Any], list[torch.Tensor]],
    batches: Iterable[Any],
    image_count: int,
    threads: int = 1,
    show_progress: bool = True,
) -> list[np.ndarray]:
    """Call `predict` for each batch, with a progress bar.

    Args:
        predict: returns N tensors [n, 6] for a batch of N images.
        batches: whatever `predict` takes.
        image_count: for the progress bar.
        threads: batches processed in parallel; these threads share PyTorch's threads.
        show_progress: False hides the progress bar.

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
            detections += [rows.cpu().numpy() for rows in found]
            bar.update(len(found))
    return detections


@contextlib.contextmanager
def _thread_pool(size: int) -> Iterator[ThreadPoolExecutor]:
    """A thread pool in which each thread gets an equal share of PyTorch's threads."""
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(size, "network", torch.set_num_threads, (max(1, threads // size),)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)  # set_num_threads in the pool also changed the default of later threads
