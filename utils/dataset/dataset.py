"""The PyTorch dataset of training and evaluation: images at input size with their labels, and their batches."""

import itertools
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from utils.dataset.augment import Augmentation, Change, change_image, change_labels
from utils.dataset.images import read_resized
from utils.dataset.index import DatasetIndex
from utils.dataset.pixel_cache import PixelCache
from utils.errors import InputError, warn


class DetectionDataset(Dataset):
    """Images at input size with their labels.

    An item consists of:
        image: [3, height, width] uint8, BGR (a view of an array [height, width, 3]).
        labels: [n, 5] float32, (class, cx, cy, w, h), boxes as fractions of the image.

    Args:
        width, height: input size in pixels.
        cache: "ram" or "disk" keeps the decoded images, see `utils.dataset.pixel_cache`; None does not.
        augment: augmentation of the items; None does not augment.
        seed: the augmentation of an item depends on this seed, the epoch and the image index only, not on the worker.
        replace_corrupt: use the next image instead of an image that cannot be decoded. False: use a black image, whose
            objects count as false negatives. Each such image causes one warning.
        ending: (epoch, augmentation) to use instead of `augment` from that epoch on.
    """

    def __init__(
        self,
        index: DatasetIndex,
        width: int,
        height: int,
        cache: str | None = None,
        augment: Augmentation | None = None,
        seed: int = 0,
        replace_corrupt: bool = False,
        ending: tuple[int, Augmentation] | None = None,
    ) -> None:
        self.index, self.width, self.height = index, width, height
        self.augment, self.ending, self.seed, self.replace_corrupt = augment, ending, seed, replace_corrupt
        # In shared memory, so that persistent workers see the new epoch, and each corrupt image is reported once.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._reported = torch.zeros(len(index), dtype=torch.bool).share_memory_()
        self.cache = PixelCache(index, width, height, cache, self.decode) if cache else None

    def __len__(self) -> int:
        return len(self.index)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which selects the augmentation of the next items."""
        self._epoch.fill_(epoch)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, labels = self.load(position)
        change = self.draw_change(position)
        if change is not None:
            image = change_image(image, change)
            labels = change_labels(labels, change, (self.width, self.height))
        return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1), torch.from_numpy(labels)

    def draw_change(self, position: int) -> Change | None:
        """Draw the augmentation of an image in this epoch; None without augmentation."""
        epoch = int(self._epoch)
        augment = self.ending[1] if self.ending and epoch >= self.ending[0] else self.augment
        return augment and augment(np.random.default_rng((self.seed, epoch, position)))

    def load(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Read an image without augmentation.

        Returns:
            [height, width, 3] uint8 BGR and its labels [n, 5] float32, both writable.

        Raises:
            InputError: no image can be decoded (`replace_corrupt`).
        """
        for candidate in itertools.chain(range(position, len(self)), range(position)):
            labels = self.index.labels[candidate].copy()
            try:
                cached = self.cache.read(candidate) if self.cache else None
                return (self.decode(candidate) if cached is None else cached), labels
            except InputError as error:
                if not self._reported[candidate]:
                    self._reported[candidate] = True
                    handling = "skipped" if self.replace_corrupt else "replaced by a black image"
                    warn(f"{error}; {handling}", count=int(self._reported.sum()))
                if not self.replace_corrupt:
                    return np.zeros((self.height, self.width, 3), np.uint8), labels
        raise InputError(f"{self.index.source}: none of its {len(self)} images can be read")

    def decode(self, position: int) -> np.ndarray:
        """Read an image at input size; raise InputError if it cannot be decoded."""
        return read_resized(self.index.images[position], self.width, self.height)


def collate(batch: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Combine items of a DetectionDataset into a batch.

    Returns:
        images: [N, 3, H, W] uint8, BGR, channels last in memory.
        targets: [M, 6] float32, (index of the image in the batch, class, cx, cy, w, h).
    """
    images, labels = zip(*batch, strict=True)
    # The memory of an item is already height × width × 3, so this copies whole images.
    images = torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)
    return images, make_targets(labels)


def make_targets(labels: Sequence[torch.Tensor]) -> torch.Tensor:
    """Combine the labels of a batch, [n, 5] per image, into the targets that `collate` returns."""
    indices = torch.repeat_interleave(torch.arange(len(labels)), torch.tensor(list(map(len, labels))))
    return torch.cat((indices[:, None], torch.cat(labels)), 1)


class _Loader(DataLoader):
    """A DataLoader. If a worker raises an InputError, its message does not contain the worker's traceback."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        try:
            yield from super().__iter__()
        except InputError as error:
            _, separator, message = str(error).rpartition("InputError: ")
            # The error's frames reference the iterator. Release it here, while it can still stop its workers; if the
            # garbage collector does it later, each worker delays the exit by five seconds.
            error.__traceback__ = self._iterator = None
            raise InputError(message.strip() if separator else str(error)) from None


def make_loader(
    dataset: DetectionDataset, batches: Iterable[list[int]], workers: int = 0, pin_memory: bool = False
) -> DataLoader:
    """Create a loader of batches as `collate` makes them.

    Args:
        batches: lists of image indices, see `utils.dataset.sampler`.
        workers: processes that read and augment; 0 reads in this process.
        pin_memory: for asynchronous copies to a GPU.
    """
    context = None
    if workers and dataset.cache is not None and dataset.cache.in_memory:
        # Only forked workers share this process's memory; others would copy all cached images.
        if sys.platform == "linux":
            context = "fork"
        else:
            workers = 0
    return _Loader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        multiprocessing_context=context,
        persistent_workers=workers > 0,
    )


def _start_worker(_: int) -> None:
    # OpenCV's own threads would compete with the other workers.
    cv2.setNumThreads(0)
    # The whole process group receives these signals. The main process handles them and stops the workers.
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, signal.SIG_IGN)
