"""A data set as training and evaluation see it: images at network size with their labels, in batches.

What is on disk is found and read by `utils.dataset.images`, `utils.dataset.labels` and `utils.dataset.index`, whose
functions can be taken from here too.
"""

import itertools
import signal
import sys

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from utils.dataset.images import IMAGE_SUFFIXES, image_size, list_images, read_image
from utils.dataset.index import DatasetIndex, load_index, scan_dataset
from utils.dataset.labels import label_path, parse_labels, scan_labels
from utils.dataset.pixel_cache import CACHE_KINDS, cache_images
from utils.errors import InputError, warn

__all__ = [
    "CACHE_KINDS",
    "IMAGE_SUFFIXES",
    "DatasetIndex",
    "DetectionDataset",
    "collate",
    "image_size",
    "label_path",
    "list_images",
    "load_index",
    "make_loader",
    "parse_labels",
    "read_image",
    "resize_image",
    "scan_dataset",
    "scan_labels",
]


def resize_image(image, width, height):
    """An image at network size: bilinear, each axis by its own factor, as the released checkpoints expect it."""
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


class DetectionDataset(Dataset):
    """Images at network size with their labels.

    An item is
        image: [3, height, width] uint8, BGR (a view of height × width × 3 memory);
        labels: [n, 6] float32, (0, class, cx, cy, w, h), normalised; `collate` fills the first column.

    Args:
        index: DatasetIndex.
        width, height: network size in pixels.
        cache: None, "ram" or "disk", see `utils.dataset.pixel_cache`; the pixels are the same.
        augment: function of (image [height, width, 3] uint8, labels [n, 5] float32, numpy Generator) that gives
            both again. It may write to what it is given.
        ending: None, or (epoch, function): from that epoch on the function takes augment's place.
        seed: with the epoch and the image's number it seeds that generator, so that what an image becomes does not
            depend on which worker reads it.
        corrupt: what becomes of an image that cannot be read. "error": InputError. "replace": it is named once and
            the next one taken in its place, as training wants it. "blank": it is named once and is black, so that
            its objects count as missed.
    """

    def __init__(self, index, width, height, cache=None, augment=None, seed=0, corrupt="error", ending=None):
        self.index, self.width, self.height = index, width, height
        self.augment, self.ending, self.seed, self.corrupt = augment, ending, seed, corrupt
        # Shared with the workers: the epoch reaches those that live through several, and each of them knows
        # which images another has named already.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._named = torch.zeros(len(index), dtype=torch.bool).share_memory_()
        self.cached = cache_images(index, width, height, cache, self._decode) if cache else None

    def __len__(self):
        return len(self.index)

    @property
    def in_memory(self):
        """Whether the pixels are in this process's memory."""
        return self.cached is not None and not isinstance(self.cached, np.memmap)

    def set_epoch(self, epoch):
        """Choose the epoch whose augmentation the next items get."""
        self._epoch.fill_(epoch)

    def __getitem__(self, number):
        image, labels = self.load(number)
        epoch = int(self._epoch)
        augment = self.ending[1] if self.ending and epoch >= self.ending[0] else self.augment
        if augment is not None:
            image, labels = augment(image, labels, np.random.default_rng((self.seed, epoch, number)))
        boxes = torch.zeros(len(labels), 6)
        boxes[:, 1:] = torch.from_numpy(labels)
        return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1), boxes

    def load(self, number):
        """Image [height, width, 3] uint8 BGR and labels [n, 5] float32 of one number, not augmented.

        Both may be written to.

        Raises:
            InputError: the image cannot be read, or nor can any other that could take its place.
        """
        for position in itertools.chain(range(number, len(self)), range(number)):
            try:
                return self._pixels(position), self.index.labels[position].copy()
            except InputError as error:
                if self.corrupt == "error":
                    raise
                self._name(position, error)
                if self.corrupt == "blank":
                    return np.zeros((self.height, self.width, 3), np.uint8), self.index.labels[position].copy()
        raise InputError(f"{self.index.source}: none of its {len(self)} images can be read")

    def _name(self, position, error):
        if not self._named[position]:
            self._named[position] = True
            warn(f"{error}; {'taken as black' if self.corrupt == 'blank' else 'skipped'}")

    def _pixels(self, number):
        if self.cached is not None:
            image = self.cached[number]
            if image.any():
                return image.copy()
        return self._decode(number)

    def _decode(self, number):
        return resize_image(read_image(self.index.images[number]), self.width, self.height)


def collate(batch):
    """Items of a DetectionDataset to one batch.

    Returns:
        images: [N, 3, H, W] uint8, BGR, channels last in memory.
        targets: [M, 6] float32, (image's number in the batch, class, cx, cy, w, h), normalised.
    """
    images, labels = zip(*batch, strict=True)
    # The items' memory is height × width × 3 already, so this copies whole images.
    images = torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)
    targets = torch.cat(labels)
    counts = torch.tensor([len(boxes) for boxes in labels])
    targets[:, 0] = torch.repeat_interleave(torch.arange(len(labels)), counts)
    return images, targets


class _Loader(DataLoader):
    """A DataLoader whose workers' InputErrors arrive as they were raised, not with the worker's traceback inside."""

    def __iter__(self):
        try:
            yield from super().__iter__()
        except InputError as error:
            _, separator, message = str(error).rpartition("InputError: ")
            # The error's frames hold the iterator and themselves. Let go of it here, while it can still tell its
            # workers to end; found later by the garbage collector, it waits five seconds for each of them.
            error.__traceback__ = self._iterator = None
            raise InputError(message.strip() if separator else str(error)) from None


def make_loader(dataset, batches, workers=0, pin_memory=False):
    """Batches of a DetectionDataset, as `collate` makes them.

    Args:
        dataset: DetectionDataset.
        batches: images a batch, taken in order; or a sampler of lists of image numbers (`utils.dataset.sampler`).
        workers: processes that read and augment; 0 reads in this one.
        pin_memory: for copies to a GPU that do not wait.
    """
    context = None
    if workers and dataset.in_memory:
        # Only forked workers see this process's memory; others would each get a copy of the whole data set.
        if sys.platform == "linux":
            context = "fork"
        else:
            workers = 0
    return _Loader(
        dataset,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        multiprocessing_context=context,
        persistent_workers=workers > 0,
        **({"batch_size": batches} if isinstance(batches, int) else {"batch_sampler": batches}),
    )


def _start_worker(_):
    # The workers share the cores already; OpenCV's own threads would only get in their way.
    cv2.setNumThreads(0)
    # Both come to a whole group of processes, and are the main process's to handle; it stops the workers.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
