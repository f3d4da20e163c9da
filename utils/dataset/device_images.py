"""A data set whose decoded images are in the memory of a GPU, which also augments them.

A CPU decodes and augments a few hundred images per second and core; a GPU trains several thousand.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
import torch.nn.functional as F

from utils.dataset.augment import GRAY, change_labels
from utils.dataset.dataset import DetectionDataset, make_targets
from utils.dataset.pixel_cache import decode_all
from utils.dataset.prefetch import prefetch_map

PREPARED_BATCHES = 2  # batches whose labels are computed in advance


class _Prepared(NamedTuple):
    """What the CPU computes for a batch."""

    positions: torch.Tensor  # [N] of the images in the data set
    changes: torch.Tensor | None  # [N, 6] float64, the fields of each `Change`
    targets: torch.Tensor  # [M, 6], see `utils.dataset.dataset.collate`


class DeviceBatches:
    """The batches of a data set, made from images in the memory of a device. Used like a DataLoader.

    Labels are equal to those of a DataLoader. The pixels of augmented images differ by rounding, at most 2 gray levels;
    with OpenCV 4, which rounds positions to 1/32 pixel, by up to 8 where neighboring pixels are black and white.

    Args:
        dataset: its `cache` must be None.
        batches: lists of image indices, see `utils.dataset.sampler`.
        device: where the images are kept.

    Raises:
        InputError: as `DetectionDataset.load`.
    """

    def __init__(self, dataset: DetectionDataset, batches: Iterable[list[int]], device: torch.device) -> None:
        self.dataset, self.batches, self.device = dataset, batches, device
        self.labels = list(dataset.index.labels)
        shape = (len(dataset), dataset.height, dataset.width, 3)
        self.images = torch.empty(shape, dtype=torch.uint8, device=device)  # BGR
        for position, image in enumerate(decode_all(shape, dataset.decode)):
            if not image.any():  # black: it may be one that could not be decoded
                image, self.labels[position] = dataset.load(position)
            self.images[position] = torch.from_numpy(image)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        with (
            ThreadPoolExecutor(1) as pool,
            contextlib.closing(prefetch_map(pool, self._prepare, self.batches, PREPARED_BATCHES)) as prepared,
        ):
            for positions, changes, targets in prepared:
                images = self.images[positions.to(self.device, non_blocking=True)]
                if changes is not None:
                    images = change_images(images, changes.to(self.device, non_blocking=True))
                yield images.permute(0, 3, 1, 2), targets.to(self.device, non_blocking=True)

    def _prepare(self, positions: list[int]) -> _Prepared:
        """Draw the changes of a batch, and compute its labels."""
        dataset = self.dataset
        labels = [self.labels[position] for position in positions]
        changes = [change for change in map(dataset.draw_change, positions) if change is not None]
        if changes:
            size = dataset.width, dataset.height
            labels = [change_labels(boxes, change, size) for boxes, change in zip(labels, changes, strict=True)]
        pin = self._pin
        return _Prepared(
            pin(torch.tensor(positions)),
            pin(torch.tensor(changes, dtype=torch.float64)) if changes else None,
            pin(make_targets(list(map(torch.from_numpy, labels)))),
        )

    def _pin(self, tensor: torch.Tensor) -> torch.Tensor:
        """Move a tensor to memory from which it is copied to a GPU without waiting."""
        return tensor.pin_memory() if self.device.type == "cuda" else tensor


def change_images(images: torch.Tensor, changes: torch.Tensor) -> torch.Tensor:
    """Apply a change to each image, as `utils.dataset.augment.change_image` does.

    Args:
        images: [N, H, W, 3] uint8.
        changes: [N, 6] float64, the fields of a `Change` per image.

    Returns:
        [N, H, W, 3] uint8.
    """
    _, height, width, _ = images.shape
    mirrored, factor, left, top, contrast, brightness = changes[:, :, None].unbind(1)  # [N, 1] each
    columns = _source_positions(width, factor, left)
    columns = torch.where(mirrored > 0, width - 1 - columns, columns)
    rows = _source_positions(height, factor, top)
    grid = torch.stack(
        (
            _normalize(columns, width)[:, None].expand(-1, height, -1),
            _normalize(rows, height)[:, :, None].expand(-1, -1, width),
        ),
        3,
    )
    # grid_sample fills the area outside the image with 0. Gray is subtracted before and added afterwards.
    pixels = images.permute(0, 3, 1, 2).float() - GRAY
    pixels = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    pixels = pixels.add_(GRAY).round_()
    contrast, brightness = (values.float()[:, :, None, None] for values in (contrast, brightness))
    pixels = pixels.mul_(contrast).add_(brightness).round_().clamp_(0, 255)
    return pixels.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _source_positions(size: int, factor: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Return the [N, size] positions, in pixels of the image along one axis, that the pixels of the frame show."""
    pixels = torch.arange(size, device=factor.device, dtype=torch.float64)
    return (pixels - offset * size) / factor


def _normalize(positions: torch.Tensor, size: int) -> torch.Tensor:
    """Convert positions in pixels to the coordinates of grid_sample: −1 and 1 are the outer edges of the image."""
    return ((2 * positions + 1) / size - 1).float()
