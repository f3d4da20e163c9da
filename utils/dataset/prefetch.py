"""Read batches in threads while the network computes earlier ones."""

import contextlib
import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import cv2
import numpy as np

from utils.dataset.images import read_resized
from utils.dataset.index import DatasetIndex

PREFETCHED_BATCHES = 2

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch_map(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], count: int
) -> Iterator[Result]:
    """Map a function over items in a pool, in order; unlike `pool.map`, take only `count` items in advance.

    Args:
        function: applied to each item. Its error is raised after the results of the earlier items.
    """
    pending = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > count:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for job in pending:
            job.cancel()


def read_batches(index: DatasetIndex, size: tuple[int, int], batch_size: int, threads: int) -> Iterator[np.ndarray]:
    """Read all images in order, in threads, as batches [N, height, width, 3] uint8, BGR.

    Not in the processes of a DataLoader: OpenCV decodes and resizes without the GIL, and starting processes and
    transferring batches costs more than it saves.

    Args:
        size: (width, height) to which they are resized.
        threads: 0 reads a batch when it is requested.

    Raises:
        InputError: an image cannot be read.
    """
    read = functools.partial(read_resized, width=size[0], height=size[1])
    with contextlib.ExitStack() as stack:
        images = map(read, index.images)
        if threads:
            stack.enter_context(single_threaded_opencv())
            pool = stack.enter_context(ThreadPoolExecutor(threads))
            images = prefetch_map(pool, read, index.images, PREFETCHED_BATCHES * batch_size)
            stack.callback(images.close)  # before the pool is closed, which waits for all pending images
        while batch := list(itertools.islice(images, batch_size)):
            yield np.stack(batch)


@contextlib.contextmanager
def single_threaded_opencv() -> Iterator[None]:
    """Disable OpenCV's own threads, which would compete with the threads that read images."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
