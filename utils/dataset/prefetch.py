"""Work done ahead in threads: the batches of a data set, read while the network works on earlier ones."""

import contextlib
import itertools
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import cv2

from utils.dataset.dataset import collate

BATCHES_AHEAD = 2  # that are read before they are asked for


def map_ahead(pool, function, items, ahead):
    """`function` of each item, in order, computed by a pool; unlike the pool's own map it takes few items at a time.

    Args:
        pool: ThreadPoolExecutor.
        items: iterable; what it raises comes after the results of the items before.
        ahead: how many items more than asked for are taken.
    """
    pending = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for job in pending:
            job.cancel()


def read_batch(dataset, numbers):
    """The images of these numbers as one batch of a data set, see `read_batches`."""
    return collate([dataset[number] for number in numbers])


def read_batches(dataset, batch_size, threads):
    """Batches of a data set, in order, read by threads.

    Not by a DataLoader's processes: OpenCV unpacks and resizes without Python's lock, and to start processes and hand
    their batches over costs more than it saves.

    Args:
        dataset: DetectionDataset.
        batch_size: images a batch; the last one may have fewer.
        threads: how many; with 0 a batch is read when it is asked for.
    Yields:
        (images [N, 3, H, W] uint8, targets [M, 6] float32), as `utils.dataset.dataset.collate` makes them.
    Raises:
        InputError: an image cannot be read.
    """
    with contextlib.ExitStack() as stack:
        items = (dataset[number] for number in range(len(dataset)))
        if threads:
            stack.enter_context(one_thread_an_image())
            pool = stack.enter_context(ThreadPoolExecutor(threads))
            items = map_ahead(pool, dataset.__getitem__, range(len(dataset)), BATCHES_AHEAD * batch_size)
            stack.callback(items.close)  # before the pool, which waits for what is still to be read
        while batch := list(itertools.islice(items, batch_size)):
            yield collate(batch)


@contextlib.contextmanager
def one_thread_an_image():
    """OpenCV's own threads would only get in the way of those that read."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
