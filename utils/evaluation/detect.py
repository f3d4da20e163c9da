"""Detections of every image of a data set."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from utils.dataset.dataset import DetectionDataset
from utils.dataset.images import image_size
from utils.dataset.prefetch import prefetch_map, read_batch, read_batches, single_threaded_opencv
from utils.postprocess import MAX_DETECTIONS

EVAL_CONF = 0.01  # low, so that the precision-recall curves are whole
EVAL_IOU = 0.4


def detect_images(runtime, index, config, batch_size, workers, conf=EVAL_CONF, iou=EVAL_IOU, max_det=MAX_DETECTIONS):
    """Detections of every image of a data set, in order.

    Args:
        runtime: from `utils.runtimes.loading.load_runtime`.
        index: DatasetIndex.
        config: Config, for the network's size.
        batch_size: images a batch; it changes the speed only.
        workers: threads that read images, where those that the network works in do not.
        conf, iou, max_det: as in `utils.postprocess.detect`.
    Returns:
        list of arrays [n, 6], (x1, y1, x2, y2, score, class) in pixels of the network's frame, best first.
    Raises:
        InputError: an image cannot be read. Its objects could only count as missed, and the figures would be wrong.
    """
    # What is no image is known from its missing size, at once and not when its turn comes.
    for position in np.flatnonzero(~index.sizes.all(1)):
        image_size(index.images[position])
    dataset = DetectionDataset(index, config.width, config.height)
    total, at_once = len(index), runtime.batches_at_once
    predict = partial(predict_batch, runtime, conf=conf, iou=iou, max_det=max_det)
    if at_once == 1:
        return collect_detections(predict, read_batches(dataset, batch_size, workers), total)
    # Each thread reads, computes and selects. With others that read there are more threads than cores, and one that is
    # needed, or holds Python's lock, waits for its turn on a core: a quarter of the time.
    size = min(batch_size, -(-total // at_once))
    numbers = (range(start, min(start + size, total)) for start in range(0, total, size))
    with single_threaded_opencv():
        return collect_detections(lambda some: predict(read_batch(dataset, some)), numbers, total, at_once)


def predict_batch(runtime, batch, conf=EVAL_CONF, iou=EVAL_IOU, max_det=MAX_DETECTIONS):
    """The detections in a batch as `utils.dataset.dataset.collate` makes it, a list of N tensors [n, 6]."""
    return runtime.predict(batch[0].permute(0, 2, 3, 1), conf=conf, iou=iou, max_det=max_det)


def collect_detections(predict, batches, total, at_once=1, shown=True):
    """Detections of every image, in order.

    Args:
        predict: function of a batch that gives a list of N tensors [n, 6].
        batches: iterable of batches, of whatever kind.
        total: number of images, for the progress bar.
        at_once: batches that are worked on side by side, sharing PyTorch's threads.
        shown: whether to show a progress bar.
    Returns:
        list of arrays [n, 6].
    """
    bar = tqdm(total=total, desc="evaluating", unit="image", disable=None if shown else True, leave=False)
    detections = []
    with (
        bar,
        _threads_for(at_once) as pool,
        contextlib.closing(prefetch_map(pool, predict, batches, at_once)) as predictions,
    ):
        for found in predictions:
            detections += [rows.cpu().numpy() for rows in found]
            bar.update(len(found))
    return detections


@contextlib.contextmanager
def _threads_for(count):
    """A pool of threads that share PyTorch's own ones among them."""
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(count, "network", torch.set_num_threads, (max(1, threads // count),)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)  # the pool has changed the default of every later thread
