"""Read batches in threads while the network computes earlier ones."""

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import cv2
import torch

from utils.dataset.dataset import DetectionDataset, collate

PREFETCHED_BATCHES = 2

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch_map(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], count: int
) -> Iterator[Result]:
    """Map a function over items in a pool, in order; unlike `pool.map`, take only `count` items in advance.

    Args:
        function: an error that it raises follows the results of the earlier items.
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


def read_batch(dataset: DetectionDataset, positions: Iterable[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Read the images at these positions as one batch, see `collate`."""
    return collate([dataset[position] for position in positions])


def read_batches(
    dataset: DetectionDataset, batch_size: int, threads: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Read a data set in order, in threads.

    Not in the processes of a DataLoader: OpenCV decodes and resizes without the GIL, and starting processes and
    transferring batches costs more than it saves.

    Args:
        batch_size: images per batch; the last batch may have fewer.
        threads: 0 reads a batch when it is requested.

    Yields:
        (images [N, 3, H, W] uint8, targets [M, 6] float32), as `collate` makes them.

    Raises:
        InputError: an image cannot be read.
    """
    with contextlib.ExitStack() as stack:
        items = (dataset[position] for position in range(len(dataset)))
        if threads:
            stack.enter_context(single_threaded_opencv())
            pool = stack.enter_context(ThreadPoolExecutor(threads))
            items = prefetch_map(pool, dataset.__getitem__, range(len(dataset)), PREFETCHED_BATCHES * batch_size)
            stack.callback(items.close)  # before the pool is closed, which waits for all pending items
        while batch := list(itertools.islice(items, batch_size)):
            yield collate(batch)


@contextlib.contextmanager
def single_threaded_opencv() -> Iterator[None]:
    """Disable OpenCV's own threads, which would compete with the threads that read images."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
